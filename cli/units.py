"""The daemons' units on a machine that is a node of a cluster: drop-ins with the kubeconfigs. I/O: systemctl.

Before: `longshore up` has made the kubeconfigs. Next: systemd starts agent and proxy with them. Configuration files
stay as they are, a kubeconfig being a flag of the kubelet and of kube-proxy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from cli.failure import Failure
from control_plane.files import PUBLIC, Content

DAEMONS = {"longshore-agent": ("agent.yaml", "kubelet"), "longshore-proxy": ("proxy.yaml", "proxy")}
"""Unit -> its configuration file, its kubeconfig."""
_NAME = "50-longshore-cluster.conf"
_BOOTED = Path("/run/systemd/system")
_DEADLINE_S = 120


def booted_by_systemd() -> bool:
    """As sd_booted(3)."""
    return _BOOTED.is_dir()


def command_lines(kubernetes_dir: Path, config_dir: Path, node_name: str) -> dict[str, list[str]]:
    """Unit -> what it should run."""
    return {
        unit: [
            f"/usr/bin/{unit}",
            f"--config={config_dir / config}",
            f"--kubeconfig={kubernetes_dir / kubeconfig}.conf",
            f"--hostname-override={node_name}",
        ]
        for unit, (config, kubeconfig) in DAEMONS.items()
    }


def drop_ins(unit_dir: Path, commands: Mapping[str, list[str]]) -> dict[Path, Content]:
    """The files that make systemd run these."""
    comment = "# Made by longshore up, taken away by longshore down."
    found = {}
    for unit, words in commands.items():
        text = f"{comment}\n[Service]\nExecStart=\nExecStart={' '.join(words)}\n"
        found[drop_in(unit_dir, unit)] = Content(text.encode(), PUBLIC)
    return found


def drop_in(unit_dir: Path, unit: str) -> Path:
    """Its place."""
    return unit_dir / f"{unit}.service.d" / _NAME


def systemctl(*arguments: str) -> None:
    """Raises Failure with what systemctl says."""
    try:
        done = subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"cannot run systemctl {' '.join(arguments)}: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Failure(f"cannot run systemctl {' '.join(arguments)}: {said}")
