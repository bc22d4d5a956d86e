"""What `make deps` installs is enough."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_a_fresh_machine_gets_all_that_a_package_is_built_with() -> None:
    # Where there is no dpkg the script says what it would install; absolute paths, because nothing else is found then.
    said = subprocess.run(
        ["/bin/sh", ROOT / "lab" / "deps.sh", "deb"],
        env={"PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    installed = set(said.rpartition(":")[2].split()) | {"debhelper-compat"}
    assert "build-essential" in installed, "dpkg-buildpackage refuses to work without it"
    installed |= {"dpkg-dev", "gcc", "libc6-dev", "make"}  # what it depends on
    control = (ROOT / "debian" / "control").read_text()
    wanted = re.search(r"^Build-Depends:\n((?: .*\n)+)", control, re.MULTILINE)
    assert wanted is not None
    alternatives = [re.findall(r"[a-z][a-z0-9.-]+", re.sub(r"\(.*?\)", "", line)) for line in wanted[1].splitlines()]
    assert [names for names in alternatives if installed.isdisjoint(names)] == []
