"""An image of Debian's haproxy, without a registry: the program and the libraries it is linked with.  I/O.

Before: `make deps` has installed haproxy.  Next: the static pod that `longshore control-plane load-balancer` writes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from lab.containerd import PrivateContainerd
from lab.images import Layer, docker_archive, import_archives
from lab.machine import LabError, run_captured

IMAGE = "longshore.test/haproxy:1"
_LIBRARY = re.compile(r"(/\S+) \(0x")


def haproxy_program() -> str:
    """Its path.  Raises LabError."""
    found = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if found is None:
        raise LabError("cannot find haproxy: run `make deps`")
    return found


def load_haproxy_image(containerd: PrivateContainerd) -> None:
    """Make and import it."""
    program = haproxy_program()
    layer = Layer()
    for directory in ("bin", "tmp"):
        layer.directory(directory, 0o755)
    layer.file("bin/haproxy", Path(program).read_bytes(), 0o755)
    for library in sorted(set(_LIBRARY.findall(run_captured(["ldd", program]).stdout))):
        layer.file(library.lstrip("/"), Path(library).read_bytes(), 0o755)
    archive = containerd.base / "haproxy.tar"
    archive.write_bytes(docker_archive(IMAGE, layer.finish(), ["/bin/haproxy"]))
    import_archives(containerd, [archive], [IMAGE])
