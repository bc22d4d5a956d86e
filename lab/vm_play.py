"""Playbooks of ansible/ run against virtual machines, and how they ended. I/O.

Before: `lab.vm` booted the machines. Next: `lab.vm_node` plays one, `lab.vm_cluster` several together.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.containerd_config import PAUSE_IMAGE
from lab.machine import LabError
from lab.vm import VirtualMachine

ROOT = Path(__file__).parents[1]
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=\d+\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Played:
    """How a playbook ended on a machine, and all that it said."""

    changed: int
    failed: int
    text: str


def play(
    machines: Sequence[VirtualMachine],
    deb: Path,
    playbook: str,
    *arguments: str,
    check: bool = True,
    control_plane: str = "",
    variables: Mapping[str, object],
) -> dict[str, Played]:
    """Run ansible/playbooks/`playbook`.yml; by machine. LabError with what it said when it fails and `check`.

    `control_plane` is the name of the machine that runs it, "" where there is none.
    """
    root, host = machines[0].root, machines[0].host
    known = {"longshore_deb": str(deb), "longshore_pause_image": PAUSE_IMAGE, "longshore_wait_s": 600, **variables}
    hosts = {machine.name: machine.inventory_entry() for machine in machines}
    groups: dict[str, object] = {"longshore_nodes": {"hosts": hosts, "vars": known}}
    if control_plane:
        groups["longshore_control_plane"] = {"hosts": {control_plane: None}}
    inventory = root / "inventory.json"
    inventory.write_text(json.dumps(groups))
    program = Path(sys.executable).with_name("ansible-playbook")
    env = [f"ANSIBLE_CONFIG={ROOT / 'ansible' / 'ansible.cfg'}", "ANSIBLE_NOCOLOR=1", f"PATH={os.environ['PATH']}"]
    env += [f"ANSIBLE_HOME={root / 'ansible'}", "LC_ALL=C.UTF-8"]
    # These machines share their processors with others, and may be slow to answer a new connection.
    env += ["ANSIBLE_TIMEOUT=60", "ANSIBLE_SSH_RETRIES=2"]
    argv = ["env", *env, str(program), "-i", str(inventory), f"{ROOT}/ansible/playbooks/{playbook}.yml"]
    done = host.run([*argv, *arguments], check=False, timeout_s=2000)
    text = done.stdout + done.stderr
    if check and done.returncode != 0:
        raise LabError(f"cannot play {playbook}.yml: exit status {done.returncode}\n{text[-8000:]}")
    found = {name: Played(int(changed), int(failed), text) for name, changed, failed in _RECAP.findall(text)}
    return {machine.name: found.get(machine.name, Played(0, 0, text)) for machine in machines}
