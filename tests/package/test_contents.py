"""What is in the package, before anybody installs it."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from lab.package import ROOT

MANUAL = ("man1/longshore.1", "man8/longshore-agent.8", "man8/longshore-proxy.8", "man5/longshore-agent.yaml.5",
          "man5/longshore-proxy.yaml.5")  # fmt: skip
UNIT_KINDS = (".service", ".target", ".slice", ".socket", ".timer", ".path", ".mount")


@pytest.fixture(scope="module")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tree")
    subprocess.run(["dpkg-deb", "--raw-extract", deb, place], check=True)
    return place


def environment(tree: Path) -> Path:
    (site,) = tree.glob("opt/longshore/lib/python3.*/site-packages")
    return site


def test_lintian_has_nothing_to_say(deb: Path) -> None:
    argv = ["lintian", "--allow-root", "--tag-display-limit", "0", "--fail-on", "error,warning", str(deb)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_unit_is_there(tree: Path) -> None:
    wanted = {path.name for path in (ROOT / "systemd").iterdir() if path.suffix in UNIT_KINDS or path.is_dir()}
    assert {"longshore-agent.service", "longshore-proxy.service"} <= wanted
    units = tree / "usr/lib/systemd/system"
    units = units if units.is_dir() else tree / "lib/systemd/system"
    assert {path.name for path in units.iterdir()} == wanted


@pytest.mark.parametrize("page", MANUAL)
def test_manual_pages(tree: Path, page: str) -> None:
    text = gzip.decompress((tree / "usr/share/man" / f"{page}.gz").read_bytes()).decode()
    assert text.startswith(".TH ")


def test_completion_is_where_each_shell_looks(tree: Path) -> None:
    places = ("bash-completion/completions/longshore", "zsh/vendor-completions/_longshore",
              "fish/vendor_completions.d/longshore.fish")  # fmt: skip
    assert [place for place in places if "_LONGSHORE_COMPLETE" not in (tree / "usr/share" / place).read_text()] == []


def test_configuration_is_the_administrators(tree: Path) -> None:
    listed = (tree / "DEBIAN/conffiles").read_text().split()
    assert sorted(listed) == ["/etc/longshore/agent.yaml", "/etc/longshore/proxy.yaml"]
    assert (tree / "etc/longshore/manifests").stat().st_mode & 0o777 == 0o700
    assert (tree / "etc/longshore/services").stat().st_mode & 0o777 == 0o755


def test_tables_need_nothing_of_what_is_left_out(tree: Path) -> None:
    """What venv.py takes out of the environment again."""
    site = environment(tree)
    assert not [one for one in ("pygments", "markdown_it", "mdurl") if (site / one).exists()]
    program = (
        f"import sys; sys.path = [p for p in sys.path if 'packages' not in p] + [{str(site)!r}]\n"
        "from rich.console import Console\nfrom rich.table import Table\nfrom rich.text import Text\n"
        "table = Table('a'); table.add_row(Text('b', style='red')); Console(force_terminal=True).print(table, {'c': 1})"
    )
    done = subprocess.run(["/usr/bin/python3", "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_programs_run_the_environments_python(tree: Path) -> None:
    for name in ("longshore", "longshore-agent", "longshore-proxy"):
        program = tree / "opt/longshore/bin" / name
        assert program.read_text().splitlines()[0] == "#!/opt/longshore/bin/python3"
        assert (tree / "usr/bin" / name).readlink() == Path("/opt/longshore/bin") / name
    assert "home = /usr/bin" in (tree / "opt/longshore/pyvenv.cfg").read_text().splitlines()


def test_only_what_runs(tree: Path) -> None:
    names = {path.name for path in environment(tree).iterdir()}
    assert {"agent", "proxy", "cli", "grpc", "systemd"} <= names
    assert names.isdisjoint({"pip", "setuptools", "wheel", "pytest", "mypy", "ruff", "tests", "bench", "lab"})
    programs = {path.name for path in (tree / "opt/longshore/bin").iterdir() if not path.name.startswith("python")}
    assert programs == {"longshore", "longshore-agent", "longshore-proxy"}


def test_nothing_names_the_place_of_the_build(tree: Path) -> None:
    marks = (b"longshore-deb.", b"debian/longshore", str(ROOT).encode())
    told = [
        str(path.relative_to(tree))
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and any(mark in path.read_bytes() for mark in marks)
    ]
    assert told == []


def test_every_module_is_compiled_for_the_units_and_for_people(tree: Path) -> None:
    missing = []
    for source in environment(tree).rglob("*.py"):
        cache = source.parent / "__pycache__"
        both = (*cache.glob(f"{source.stem}.cpython-3??.pyc"), *cache.glob(f"{source.stem}.cpython-3??.opt-2.pyc"))
        # Bits 1 and 0 of the second word (PEP 552): by hash, and not checked.
        if [compiled.read_bytes()[4:8] for compiled in both] != [b"\1\0\0\0"] * 2:
            missing.append(str(source))
    assert missing == []


def test_dependencies(deb: Path) -> None:
    """A package for another release is refused by what it depends on, not by a traceback."""
    said = subprocess.run(["dpkg-deb", "--field", deb, "Depends"], capture_output=True, text=True, check=True).stdout
    depends = [part.split(" (")[0].strip() for part in said.split(",")]
    assert {"containerd | containerd.io", "iptables", "kmod", "libc6", "libsystemd0"} <= set(depends)
    assert any(part.startswith("python3.") for part in depends)
