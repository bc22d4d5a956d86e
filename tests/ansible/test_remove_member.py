"""Which pods have to leave a machine before its Node is deleted, and what is said where nobody can be asked."""

from __future__ import annotations

import asyncio
import json
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.ansible_runs import ANSIBLE, run_playbook

SCRIPT = ANSIBLE / "roles" / "control_plane" / "files" / "remove_member.py"
PLAIN = {"metadata": {"namespace": "a", "name": "b"}}


def owned(kind: str, *, controller: bool = True) -> dict[str, Any]:
    return {"metadata": {**PLAIN["metadata"], "ownerReferences": [{"kind": kind, "controller": controller}]}}


@pytest.mark.parametrize(
    ("pod", "wanted"),
    [
        (PLAIN, True),
        (owned("ReplicaSet"), True),
        (owned("DaemonSet"), False),
        (owned("DaemonSet", controller=False), True),
        ({"metadata": {**PLAIN["metadata"], "annotations": {"kubernetes.io/config.mirror": "x"}}}, False),
        ({**PLAIN, "status": {"phase": "Failed"}}, False),
        ({**PLAIN, "status": {"phase": "Pending"}}, True),
    ],
)
def test_what_nobody_else_ends_has_to_go(pod: dict[str, Any], wanted: bool) -> None:
    assert runpy.run_path(str(SCRIPT))["must_go"](pod) is wanted


def test_a_machine_without_a_control_plane_cannot_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    """2 lets the node leave all the same; 1 would stop it."""
    script = runpy.run_path(str(SCRIPT))
    script["main"].__globals__["ADMIN"] = ANSIBLE / "none.conf"
    assert asyncio.run(script["main"]("drain", "node-1", "1")) == 2
    assert "none.conf" in capsys.readouterr().out


def reset(directory: Path, groups: Mapping[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    role = {"ansible.builtin.include_role": {"name": str(ANSIBLE / "roles" / "control_plane"), "tasks_from": "reset"}}
    play = {"hosts": "longshore_nodes", "gather_facts": False, "tasks": [role]}
    (directory / "play.json").write_text(json.dumps([play]))
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    nodes = {"longshore_nodes": {"hosts": {"plane": None, "worker": None}, "vars": local}}
    return run_playbook(directory / "play.json", directory, *options, inventory={**nodes, **groups})


def test_a_machine_leaves_though_its_control_plane_does_not_answer(tmp_path: Path) -> None:
    """And it is said that the Node stays."""
    more = {"control_plane_node": "node-7", "control_plane_remover": [sys.executable, "-"], "longshore_drain_wait_s": 1}
    options = ("--limit", "worker", "-e", json.dumps(more))
    done = reset(tmp_path, {"longshore_control_plane": {"hosts": {"plane": None}}}, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot delete the Node node-7 on plane: cannot read kubeconfig /etc/kubernetes/admin.conf" in done.stdout


def test_machines_that_never_had_a_control_plane_have_no_node_to_delete(tmp_path: Path) -> None:
    done = reset(tmp_path, {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot delete" not in done.stdout
