"""Runs ansible-playbook of this environment, for the tests of this directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / "ansible"
ROLES = ("prereq", "containerd", "agent", "proxy", "control_plane")
BIN = Path(sys.executable).parent


def run_playbook(
    playbook: Path, home: Path, *options: str, inventory: object = None
) -> subprocess.CompletedProcess[str]:
    """One run, with a home of its own; `inventory` is written as JSON there."""
    argv = [str(BIN / "ansible-playbook"), str(playbook), *options]
    if inventory is not None:
        file = home / "inventory.json"
        file.write_text(json.dumps(inventory))
        argv += ["-i", str(file)]
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(home / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, cwd=home, timeout=500)


def failures(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Host -> message, of the hosts that failed."""
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        if line.startswith("fatal: ["):
            host, _, rest = line.removeprefix("fatal: [").partition("]")
            result: dict[str, Any] = json.loads(rest.partition("=> ")[2])
            found[host.split(" ")[0]] = str(result.get("msg", ""))
    return found
