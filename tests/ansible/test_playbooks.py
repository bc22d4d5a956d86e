"""The playbooks as ansible-playbook and ansible-lint read them, and what they say to a wrong inventory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.ansible.ansible_runs import ANSIBLE, BIN, ROOT, failures, run_playbook

PLAYBOOKS = ("site", "upgrade", "reset", "backup")
EXAMPLE = ANSIBLE / "inventory.example.yml"


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_is_a_playbook(name: str, tmp_path: Path) -> None:
    done = run_playbook(ANSIBLE / "playbooks" / f"{name}.yml", tmp_path, "-i", str(EXAMPLE), "--syntax-check")
    assert (done.returncode, done.stderr) == (0, "")


def test_ansible_lint_has_nothing_to_say() -> None:
    argv = [str(BIN / "ansible-lint"), "--offline", "--nocolor", "--strict", "ansible"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Profile 'production' was required, and it passed" in done.stderr


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_an_inventory_without_nodes_is_an_error(name: str, tmp_path: Path) -> None:
    done = run_playbook(ANSIBLE / "playbooks" / f"{name}.yml", tmp_path, inventory={"others": {"hosts": {"a": None}}})
    assert done.returncode != 0
    assert "no host is in the group longshore_nodes" in failures(done)["localhost"]


def test_a_machine_that_is_not_there_is_named(tmp_path: Path) -> None:
    if shutil.which("ssh") is None:
        pytest.skip("ssh is not installed")
    hosts = {"gone": {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_retries": 0}}
    inventory = {"longshore_nodes": {"hosts": hosts}}
    done = run_playbook(ANSIBLE / "playbooks" / "site.yml", tmp_path, inventory=inventory)
    assert done.returncode != 0
    said = failures(done)["gone"]
    assert said.startswith("cannot reach gone at 127.0.0.1: ")
    assert "Connection refused" in said
    assert "check ansible_host" in said


def test_reset_asks_first(tmp_path: Path) -> None:
    inventory = {"longshore_nodes": {"hosts": {"here": {"ansible_connection": "local"}}}}
    done = run_playbook(ANSIBLE / "playbooks" / "reset.yml", tmp_path, inventory=inventory)
    assert done.returncode != 0
    assert "-e longshore_reset_confirm=yes" in failures(done)["here"]


@pytest.mark.parametrize("script", sorted(ANSIBLE.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_bash(script: Path) -> None:
    if "playbooks/roles" in str(script):
        pytest.skip("the same file by the link")
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
