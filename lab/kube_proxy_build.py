"""kube-proxy built from its Go modules into the cache: what `make bench-kube-proxy` measures us beside. I/O.

Before: `lab.kubernetes_build` compiles. Next: bench/proxy_sides.py runs the binary.
`python -m lab.kube_proxy_build` builds ahead of time (five to ten minutes of two cores, niced, once).
"""

from __future__ import annotations

from pathlib import Path

from lab.cache import cached
from lab.kubernetes_build import KUBERNETES_VERSION, build_kubernetes


def kube_proxy_binary() -> Path:
    """Path of kube-proxy; built first when the cache has none. LabError carries the end of what the compiler said."""
    return cached("kube-proxy", KUBERNETES_VERSION, _build)


def _build(place: Path, scratch: Path) -> None:
    print(f"building kube-proxy {KUBERNETES_VERSION} from its Go modules: five to ten minutes, once", flush=True)
    build_kubernetes(place, scratch, ["kube-proxy"])


if __name__ == "__main__":
    print(kube_proxy_binary())
