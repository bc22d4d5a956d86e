"""The kubelet built from its Go modules into the cache: what `make bench-kubelet` measures us beside. I/O.

Before: `lab.kubernetes_build` compiles. Next: `lab.kubelet` runs the binary.
`python -m lab.kubelet_build` builds ahead of time (five to ten minutes of two cores, niced, once).
"""

from __future__ import annotations

from pathlib import Path

from lab.cache import cached
from lab.kubernetes_build import KUBERNETES_VERSION, build_kubernetes

KUBELET_VERSION = KUBERNETES_VERSION


def kubelet_binary() -> Path:
    """Path of the kubelet; built first when the cache has none. LabError carries the end of what the compiler said."""
    return cached("kubelet", KUBELET_VERSION, _build)


def _build(place: Path, scratch: Path) -> None:
    print(f"building kubelet {KUBELET_VERSION} from its Go modules: five to ten minutes, once", flush=True)
    build_kubernetes(place, scratch, ["kubelet"])


if __name__ == "__main__":
    print(kubelet_binary())
