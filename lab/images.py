"""Small images without a registry: docker-archive tars made from busybox-static and a pause program, imported into
containerd. I/O.

Before: `lab.containerd` runs. Next: pods of tests and demo name these images with imagePullPolicy IfNotPresent or
Never.

`longshore.test/pause:1`      the sandbox process: sleeps until it is told to end.
`longshore.test/web:1`, `:2`  busybox with all its applets; started without a command it serves HTTP on $PORT (8080):
`/` is the pod's name,
                              `/version` the tag; it ends at once on SIGTERM.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.containerd import PrivateContainerd
from lab.containerd_config import PAUSE_IMAGE
from lab.machine import LabError, run_captured, wait_until

WEB_IMAGE = "longshore.test/web:1"
WEB_IMAGE_2 = "longshore.test/web:2"
ALL_IMAGES = (PAUSE_IMAGE, WEB_IMAGE, WEB_IMAGE_2)

_PAUSE_C = r"""
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, 0, WNOHANG) > 0) { } }
int main(void) {
    signal(SIGTERM, leave); signal(SIGINT, leave); signal(SIGCHLD, reap);
    for (;;) pause();
}
"""
# pid 1 of a container has no default action for SIGTERM: without the trap a stop would take the whole grace period.
_PAUSE_SH = "#!/bin/sh\ntrap 'exit 0' TERM INT\nwhile :; do sleep 3600 & wait $!; done\n"
_WEB_SH = """#!/bin/sh
trap 'kill $! 2>/dev/null; exit 0' TERM INT
mkdir -p /tmp/www
hostname > /tmp/www/index.html
cp /etc/web-version /tmp/www/version
httpd -f -p "${PORT:-8080}" -h /tmp/www &
wait $!
"""
_USERS = "root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_GROUPS = "root:x:0:\nweb:x:1000:\nnogroup:x:65534:\n"
_GO_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


class Layer:
    """A tar in memory; entries are owned by root and dated 0, so equal content gives equal digests."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.USTAR_FORMAT)

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory."""
        self._add(name, tarfile.DIRTYPE, mode)

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        self._add(name, tarfile.REGTYPE, mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, tarfile.SYMTYPE, 0o777, link=target)

    def finish(self) -> bytes:
        """The tar's bytes."""
        self._tar.close()
        return self._buffer.getvalue()

    def _add(self, name: str, kind: bytes, mode: int, data: bytes = b"", link: str = "") -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(data), link
        self._tar.addfile(entry, io.BytesIO(data))


def docker_archive(reference: str, layer: bytes, entrypoint: Sequence[str], *, user: str = "") -> bytes:
    """A docker-archive tar (Docker image specification 1.2) of one image with one layer."""
    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    settings = {"Entrypoint": list(entrypoint), "Env": ["PATH=/bin"], "WorkingDir": "/", "User": user}
    config = {
        "architecture": _GO_ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "longshore lab"}],
    }
    config_bytes = json.dumps(config).encode()
    config_name = hashlib.sha256(config_bytes).hexdigest() + ".json"
    archive = Layer()
    archive.file(config_name, config_bytes)
    archive.file("layer.tar", layer)
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]
    archive.file("manifest.json", json.dumps(manifest).encode())
    return archive.finish()


def pause_archive(scratch: Path) -> bytes:
    """The pause image: a static C program, or a busybox script where there is no compiler."""
    program = _compiled_pause(scratch)
    layer = Layer()
    if program is None:
        _add_busybox(layer)
        layer.file("pause", _PAUSE_SH.encode(), 0o755)
    else:
        layer.file("pause", program, 0o755)
    return docker_archive(PAUSE_IMAGE, layer.finish(), ["/pause"])


def web_archive(reference: str, *, user: str = "") -> bytes:
    """The web image under the name `reference`, with `user` as its USER."""
    layer = Layer()
    _add_busybox(layer)
    layer.directory("tmp", 0o1777)
    layer.directory("etc")
    layer.file("etc/passwd", _USERS.encode())
    layer.file("etc/group", _GROUPS.encode())
    layer.file("etc/web-version", reference.rpartition(":")[2].encode() + b"\n")
    layer.file("bin/web", _WEB_SH.encode(), 0o755)
    return docker_archive(reference, layer.finish(), ["/bin/web"], user=user)


def build_archives(directory: Path) -> tuple[Path, ...]:
    """Write the tars of ALL_IMAGES into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    archives = {
        "pause-1.tar": pause_archive(directory),
        "web-1.tar": web_archive(WEB_IMAGE),
        "web-2.tar": web_archive(WEB_IMAGE_2),
    }
    for name, data in archives.items():
        (directory / name).write_bytes(data)
    return tuple(directory / name for name in archives)


def import_archives(containerd: PrivateContainerd, archives: Iterable[Path], names: Iterable[str] = ALL_IMAGES) -> None:
    """Import the tars and wait until the CRI lists their images (it learns of them by an event, a moment later)."""
    # containerd 2's ctr imports through the transfer service, which unpacks with a snapshotter configured elsewhere.
    local = ["--local"] if containerd.binaries.version >= (2, 0) else []
    for archive in archives:
        containerd.ctr("images", "import", *local, str(archive))

    wanted = tuple(names)

    def listed() -> bool:
        answer = containerd.call("ListImages", service="ImageService") or b""
        return all(name.encode() in answer for name in wanted)

    wait_until(listed, "the CRI to list the imported images")


def load_images(containerd: PrivateContainerd) -> None:
    """Build and import ALL_IMAGES."""
    with tempfile.TemporaryDirectory(prefix="longshore-images-") as scratch:
        import_archives(containerd, build_archives(Path(scratch)))


def _compiled_pause(scratch: Path) -> bytes | None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return None
    source, program = scratch / "pause.c", scratch / "pause"
    source.write_text(_PAUSE_C)
    if run_captured([compiler, "-Os", "-static", "-s", "-o", str(program), str(source)], check=False).returncode != 0:
        return None
    return program.read_bytes()


def _add_busybox(layer: Layer) -> None:
    where = shutil.which("busybox")
    if where is None:
        raise LabError("cannot build the lab's images: no busybox; run `make deps`")
    if b"/ld-linux" in (data := Path(where).read_bytes()):
        raise LabError(f"cannot build the lab's images: {where} is not static; install busybox-static")
    layer.directory("bin")
    layer.file("bin/busybox", data, 0o755)
    for applet in run_captured([where, "--list"]).stdout.split():
        if applet != "busybox":
            layer.symlink(f"bin/{applet}", "busybox")
