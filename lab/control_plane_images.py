"""Images of etcd and the control plane, without a registry, in the cache as docker-archive tars: one program each, and
etcdutl beside etcd. I/O.

Before: `lab.control_plane_build` has compiled the programs. Next: static pods that `longshore control-plane manifests
--image-repository longshore.test` has written run them on a private containerd.
"""

from __future__ import annotations

from pathlib import Path

from lab.cache import cached
from lab.containerd import PrivateContainerd
from lab.control_plane_build import ETCD_VERSION, control_plane_directory, etcdutl_binary
from lab.images import Layer, docker_archive, import_archives
from lab.kubernetes_build import KUBERNETES_VERSION

REPOSITORY = "longshore.test"
ETCD_IMAGE = f"{REPOSITORY}/etcd:{ETCD_VERSION}"
_IMAGES = {
    "etcd": ETCD_IMAGE,
    **{
        name: f"{REPOSITORY}/{name}:v{KUBERNETES_VERSION}"
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    },
}
OPTIONS = (
    f"--image-repository={REPOSITORY}",
    f"--kubernetes-version=v{KUBERNETES_VERSION}",
    f"--etcd-image={ETCD_IMAGE}",
)
"""What makes `longshore up` and `longshore control-plane` name these images."""


def image_archives() -> list[Path]:
    """The files; built first when the cache has none, and the programs too."""
    place = cached("images-control-plane", f"{KUBERNETES_VERSION}-etcd-{ETCD_VERSION}-etcdutl", _make)
    return [place / f"{name}.tar" for name in _IMAGES]


def load_control_plane_images(containerd: PrivateContainerd) -> None:
    """Import them."""
    import_archives(containerd, image_archives(), _IMAGES.values())


def _make(place: Path, _: Path) -> None:
    place.mkdir()
    programs = control_plane_directory()
    for name, reference in _IMAGES.items():
        layer = Layer()
        layer.directory("bin")
        layer.directory("tmp", 0o1777)
        layer.file(f"bin/{name}", (programs / name).read_bytes(), 0o755)
        if name == "etcd":
            layer.file("bin/etcdutl", etcdutl_binary().read_bytes(), 0o755)
        (place / f"{name}.tar").write_bytes(docker_archive(reference, layer.finish(), [f"/bin/{name}"]))
