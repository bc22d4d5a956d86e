"""Builds the virtual environment of the package: /opt/longshore below a directory that stands in for /.

Before: debian/rules, with the distribution's own Python (nothing but its standard library). Next: debhelper packs what
is there. Effects: runs pip, writes below the directory. Nothing in the result names the place where it was built, and
everything is compiled to bytecode that is not checked against its source: a start writes nothing and stats little, and
the package is the same whenever it is built.
"""

from __future__ import annotations

import compileall
import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from py_compile import PycInvalidationMode

HOME = "/opt/longshore"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
# 0 is what `longshore` runs with, 2 (no docstrings in memory) what the units ask for.
OPTIMIZATION_LEVELS = [0, 2]
NOT_FOR_A_NODE = ("pip", "setuptools", "wheel", "lab")  # what only building and testing need
# rich colours source code and Markdown with these, which nobody asks it to: every fifth file of the environment.
NOT_ASKED_FOR = ("pygments", "markdown_it", "markdown_it_py", "mdurl")

_ENTRY = """#!{home}/bin/python3
import sys

from {module} import {function}

sys.exit({function}())
"""


def build(root: Path) -> None:
    """Make the environment at `root`/opt/longshore from requirements-run.lock and the project here."""
    home = root.resolve() / HOME.lstrip("/")
    subprocess.run([f"/usr/bin/{PYTHON}", "-m", "venv", home], check=True)
    # What pip compiles, it compiles in a directory whose name is chance: no trace of it may reach the result.
    environment = {**os.environ, "CFLAGS": "-g0", "LDFLAGS": "-Wl,--build-id=none"}
    pip = [str(home / "bin" / "python3"), "-m", "pip", "install", "--quiet", "--no-compile", "--use-pep517"]
    subprocess.run([*pip, "--require-hashes", "--requirement", "requirements-run.lock"], check=True, env=environment)
    subprocess.run([*pip, "--no-deps", "."], check=True)
    site = home / "lib" / PYTHON / "site-packages"
    _remove_tools(site)
    _write_programs(home, site)
    for place in site.glob("longshore-*.dist-info/direct_url.json"):
        place.unlink()  # says where the project was built
    for record in site.glob("*.dist-info/RECORD"):
        record.unlink()  # of no use without pip, and no longer true
    _write_config(home)
    _set_modes(home)
    _compile(root.resolve(), home / "lib")


def _remove_tools(site: Path) -> None:
    for name in (*NOT_FOR_A_NODE, *NOT_ASKED_FOR):
        for path in (site / name, *site.glob(f"{name}-*.dist-info")):
            shutil.rmtree(path, ignore_errors=True)
    for path in (site / "pkg_resources", site / "_distutils_hack"):
        shutil.rmtree(path, ignore_errors=True)
    (site / "distutils-precedence.pth").unlink(missing_ok=True)


def _write_programs(home: Path, site: Path) -> None:
    """Our own programs and no other: pip's have the place of the build in their first line."""
    shutil.rmtree(home / "bin")
    (home / "bin").mkdir()
    (home / "bin" / PYTHON).symlink_to(f"/usr/bin/{PYTHON}")
    for name in ("python", "python3"):
        (home / "bin" / name).symlink_to(PYTHON)
    for entry in _longshore(site).entry_points:
        if entry.group == "console_scripts":
            program = home / "bin" / entry.name
            program.write_text(_ENTRY.format(home=HOME, module=entry.module, function=entry.attr))
            program.chmod(0o755)


def _longshore(site: Path) -> Distribution:
    return next(iter(distributions(name="longshore", path=[str(site)])))


def _write_config(home: Path) -> None:
    lines = ("home = /usr/bin", "include-system-site-packages = false", f"executable = /usr/bin/{PYTHON}")
    (home / "pyvenv.cfg").write_text("\n".join(lines) + "\n")
    shutil.rmtree(home / "include", ignore_errors=True)
    (home / ".gitignore").unlink(missing_ok=True)  # venv writes one from Python 3.13 on


def _set_modes(home: Path) -> None:
    """Some wheels call every file of theirs a program."""
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.parent != home / "bin":
            path.chmod(0o644)


def _compile(root: Path, library: Path) -> None:
    for cache in library.rglob("__pycache__"):
        shutil.rmtree(cache)
    for level in OPTIMIZATION_LEVELS:
        done = compileall.compile_dir(
            str(library),
            maxlevels=100,
            quiet=1,
            workers=0,
            stripdir=str(root),
            prependdir="/",
            optimize=level,
            invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
        )
        if not done:
            sys.exit("cannot compile the environment: a module is not for this Python, see above")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
