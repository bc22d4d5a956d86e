"""etcd, the control plane's programs and kubectl built from their Go modules into the cache. I/O.

Before: `lab.kubernetes_build` compiles. Next: `lab.control_plane` runs the binaries.
`python -m lab.control_plane_build` builds ahead of time and says how long it took.
"""

from __future__ import annotations

import time
from pathlib import Path

from lab.cache import cache_directory, cached
from lab.kubernetes_build import KUBERNETES_VERSION, GoModule, build_kubernetes, kubernetes_binary

ETCD_VERSION = "3.6.6"
_ETCD_MODULE = "go.etcd.io/etcd/server/v3"
_ETCDUTL_MODULE = "go.etcd.io/etcd/etcdutl/v3"
_KEY = f"{KUBERNETES_VERSION}-etcd-{ETCD_VERSION}"
_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubeadm")


def control_plane_directory() -> Path:
    """Directory with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and kubeadm.

    They are built first when the cache has none. LabError carries the end of what the compiler said.
    """
    return cached("control-plane", _KEY, _build)


def kubeadm_binary() -> Path:
    """Path of kubeadm; alone it takes minutes, with the others, whose packages it shares, seconds.  Raises LabError."""
    beside = control_plane_directory() / "kubeadm"  # a cache from before it was one of them has none
    return beside if beside.exists() else kubernetes_binary("kubeadm")


def etcdutl_binary() -> Path:
    """Path of etcdutl, which makes data of snapshots; built first when the cache has none.  Raises LabError."""

    def build(place: Path, scratch: Path) -> None:
        module = GoModule(scratch)
        module.require(_ETCDUTL_MODULE, ETCD_VERSION)
        module.build(place, [_ETCDUTL_MODULE], "")

    return cached("etcdutl", ETCD_VERSION, build)


def is_built() -> bool:
    """Whether `control_plane_directory` answers at once."""
    return (cache_directory() / f"control-plane-{_KEY}").is_dir()


def _build(place: Path, scratch: Path) -> None:
    print(f"building the control plane {KUBERNETES_VERSION} from its Go modules, once", flush=True)
    place.mkdir()
    build_kubernetes(place, scratch, _COMMANDS)
    module = GoModule(scratch)
    module.require(_ETCD_MODULE, ETCD_VERSION)
    module.build(place / "etcd", [_ETCD_MODULE], "")


if __name__ == "__main__":
    started_s = time.monotonic()
    print(control_plane_directory(), etcdutl_binary(), kubeadm_binary())
    print(f"ready after {time.monotonic() - started_s:.0f} s")
