"""vagrant/Vagrantfile as Vagrant reads it; no provider, plugin or box is needed for that."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ansible.ansible_runs import ROOT


def validate(home: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed")
    environment = {
        **os.environ, "VAGRANT_HOME": str(home / "home"), "VAGRANT_DOTFILE_PATH": str(home / "dot"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        **settings,
    }  # fmt: skip
    argv = ["vagrant", "validate", "--ignore-provider"]
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, cwd=ROOT / "vagrant", env=environment, timeout=500
    )


@pytest.mark.parametrize(
    ("settings", "nodes"),
    [({}, 3), ({"LONGSHORE_NODES": "2", "LONGSHORE_CLUSTER": "no", "LONGSHORE_BOX": "debian/trixie64"}, 2)],
)
def test_is_valid(settings: dict[str, str], nodes: int, tmp_path: Path) -> None:
    done = validate(tmp_path, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Vagrantfile validated successfully" in done.stdout
    assert done.stdout.count("Ignoring provider config") == nodes


def test_a_setting_with_a_mistake_is_named(tmp_path: Path) -> None:
    done = validate(tmp_path, LONGSHORE_MEMORY="2G")
    assert done.returncode != 0
    assert 'LONGSHORE_MEMORY: "2G" is no number' in done.stderr
    done = validate(tmp_path, LONGSHORE_CLUSTER="perhaps")
    assert done.returncode != 0
    assert 'LONGSHORE_CLUSTER: "perhaps" is neither yes nor no' in done.stderr
