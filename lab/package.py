"""The Debian package and a root file system to install it in, both made once and kept in the cache. I/O.

Before: nothing. Next: tests/package and the virtual machine install what they get here. A package is cached by the
content of all that goes into it, a root by the names of its packages. `python -m lab.package` makes both ahead of time.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from lab.build import TRIES, codename, run
from lab.cache import cached
from lab.machine import LabError

ROOT = Path(__file__).parents[1]
BESIDE_PACKAGES = ("debian", "docs", "systemd", "LICENSE", "README.md", "pyproject.toml", "requirements-run.lock")
# What the package depends on and recommends, and what its maintainer scripts look for.
ROOT_PACKAGES = (
    "bash-completion", "containerd", "containernetworking-plugins", "init-system-helpers", "iproute2", "iptables",
    "kmod", "libsystemd0", "man-db", "nftables", "procps", "systemd",
)  # fmt: skip
_PYTHON = ROOT / "debian" / "python"


def missing_tool() -> str:
    """The first program that is missing to build and try a package, or ""."""
    wanted = ("dpkg-buildpackage", "dh", "lintian", "mmdebstrap", "unshare")
    return next((name for name in wanted if shutil.which(name) is None), "")


def deb_file() -> Path:
    """The package of this tree; built first when the cache has none (about a minute).

    LabError carries what the build said.
    """
    return next(cached("deb", _fingerprint(), _build_deb, keep=3).glob("*.deb"))


def _build_deb(place: Path, _scratch: Path) -> None:
    print("building the Debian package: about a minute", flush=True)
    run([str(ROOT / "debian" / "make-deb"), str(place)])


def debian_root() -> Path:
    """A tar file: this distribution, minimal, with what the package depends on (half a minute, once)."""
    return cached("root", f"{codename()}-{hashlib.sha256(_root_packages().encode()).hexdigest()[:16]}.tar", _build_root)


def _build_root(place: Path, _scratch: Path) -> None:
    print(f"making a root file system of {codename()}: about half a minute, once", flush=True)
    options = [
        "--quiet",
        '--aptopt=Acquire::Retries "5"',
        "--variant=minbase",
        "--format=tar",
        f"--include={_root_packages()}",
    ]
    run(["mmdebstrap", *options, codename(), str(place)], tries=TRIES)


def _root_packages() -> str:
    return ",".join((*ROOT_PACKAGES, _python()))


def later_version(
    deb: Path, version: str, scratch: Path, *, more_configuration: str = "", last_words: str = ""
) -> Path:
    """The same package with another version; `more_configuration` is appended to the agent.yaml that it brings,
    `last_words` to its postinst.
    """
    tree = scratch / f"tree-{version}"
    run(["dpkg-deb", "--raw-extract", str(deb), str(tree)])
    control = tree / "DEBIAN" / "control"
    lines = control.read_text().splitlines()
    control.write_text(
        "\n".join(f"Version: {version}" if line.startswith("Version:") else line for line in lines) + "\n"
    )
    with (tree / "etc/longshore/agent.yaml").open("a") as file:
        file.write(more_configuration)
    with (tree / "DEBIAN/postinst").open("a") as file:
        file.write(last_words)
    later = scratch / f"longshore_{version}_{deb.stem.rpartition('_')[2]}.deb"
    run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(later)])
    shutil.rmtree(tree)
    return later


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{platform.freedesktop_os_release()}{_python()}{platform.machine()}".encode())
    for path in sorted(_sources()):
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode:o}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    """Every file that decides what is in the package; lab/ is built with it and left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.split(".")[0] for name in project["tool"]["setuptools"]["packages"]} - {"lab"}
    for name in (*packages, *BESIDE_PACKAGES):
        top = ROOT / name
        for path in top.rglob("*") if top.is_dir() else (top,):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _python() -> str:
    found = subprocess.run([_PYTHON], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise LabError(found.stderr.strip())
    return Path(found.stdout.strip()).name


if __name__ == "__main__":
    print(deb_file())
    print(debian_root())
