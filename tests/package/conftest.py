"""The Debian package of this tree, and a machine that is only a root file system to install it in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import package


class Chroot:
    """A root file system; what runs in it has its own network, processes and mounts, and no systemd."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script in it; AssertionError with all it said where it fails and should not."""
        argv = [
            "unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", f"--mount-proc={self.root}/proc",
            "chroot", str(self.root), "/bin/sh", "-euc", script,
        ]  # fmt: skip
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=environment, timeout=800
        )
        assert not check or done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}"
        return done

    def files(self) -> dict[str, str]:
        """Every file with its size or the place it links to; directories end in a slash."""
        found = {}
        for directory, directories, names in os.walk(self.root):
            here = Path(directory).relative_to(self.root)
            if here.parts and here.parts[0] == "proc":
                continue
            for name in (*directories, *names):
                path = Path(directory) / name
                if path.is_symlink():
                    found[str(here / name)] = str(path.readlink())
                elif path.is_dir():
                    found[f"{here / name}/"] = ""
                elif path.is_file():
                    found[str(here / name)] = f"{path.stat().st_size}"
        return found

    def put(self, deb: Path) -> str:
        """Bring a package inside; its path there."""
        inside = self.root / "tmp" / deb.name
        inside.write_bytes(deb.read_bytes())
        return f"/tmp/{deb.name}"


@pytest.fixture(scope="session")
def deb(root_user: None) -> Path:
    return package.deb_file()


@pytest.fixture(scope="session")
def root_user() -> None:
    if missing := package.missing_tool():
        pytest.skip(f"{missing} is not installed")
    if os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.fixture(scope="session")
def plain_layer(root_user: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    layer = tmp_path_factory.mktemp("plain")
    subprocess.run(["tar", "--extract", "--file", package.debian_root(), "--directory", layer], check=True)
    yield layer
    shutil.rmtree(layer)  # 400 MB that pytest would keep for three runs


@pytest.fixture(scope="session")
def installed_layer(plain_layer: Path, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the installation of the package changes of the plain one."""
    place = tmp_path_factory.mktemp("installed")
    with layered(place, plain_layer) as machine:
        machine.run(f"dpkg --install {machine.put(deb)}")
    return place / "upper"


@pytest.fixture
def chroot(plain_layer: Path, tmp_path: Path) -> Iterator[Chroot]:
    """Nothing of ours is there."""
    with layered(tmp_path, plain_layer) as machine:
        yield machine


@pytest.fixture
def installed(plain_layer: Path, installed_layer: Path, tmp_path: Path) -> Iterator[Chroot]:
    """The package is installed."""
    with layered(tmp_path, installed_layer, plain_layer) as machine:
        yield machine


@contextmanager
def layered(place: Path, *lower: Path) -> Iterator[Chroot]:
    """A root whose changes go to `place`/upper and not to the layers below, topmost first."""
    upper, work, root = (place / name for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        directory.mkdir()
    upper.chmod(0o755)
    options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
    try:
        yield Chroot(root)
    finally:
        subprocess.run(["umount", root], check=True)


@pytest.fixture(scope="session")
def later(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next release: other defaults in agent.yaml."""
    scratch = tmp_path_factory.mktemp("later")
    return package.later_version(deb, "9.0", scratch, more_configuration="maxPods: 77\n")
