"""The daemons' units on a machine that is a node of a cluster: drop-ins with the kubeconfigs. I/O: systemctl.

Before: `longshore up` has made the kubeconfigs. Next: systemd starts agent and proxy with them. Configuration files
stay as they are, a kubeconfig being a flag of the kubelet and of kube-proxy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from cli.failure import Failure
from control_plane.files import PUBLIC, Content
from control_plane.settings import Places

AGENT, PROXY = "longshore-agent", "longshore-proxy"
DAEMONS = (AGENT, PROXY)
_KIND = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
_NAME = "50-longshore-cluster.conf"
_BOOTED = Path("/run/systemd/system")
_DEADLINE_S = 120


def booted_by_systemd() -> bool:
    """As sd_booted(3)."""
    return _BOOTED.is_dir()


def command_lines(places: Places, config_dir: Path, node_name: str, node_ip: str = "") -> dict[str, list[str]]:
    """Unit -> what it should run; without a `node_ip` the agent chooses."""
    agent = [f"--config={config_dir / 'agent.yaml'}", f"--kubeconfig={places.kubeconfig('kubelet')}"]
    agent.append(f"--client-ca-file={places.pki / 'ca.crt'}")  # whom the API server shows itself as to the node's API
    address = [f"--node-ip={node_ip}"] if node_ip else []
    return {
        AGENT: [f"/usr/bin/{AGENT}", *agent, f"--hostname-override={node_name}", *address],
        PROXY: [f"/usr/bin/{PROXY}", f"--config={proxy_file(places)}"],
    }


def join_lines(places: Places, config_dir: Path, node_name: str, node_ip: str = "") -> dict[str, list[str]]:
    """The same for a worker, whose agent gets its certificate itself."""
    lines = command_lines(places, config_dir, node_name, node_ip)
    bootstrap = [f"--bootstrap-kubeconfig={places.kubeconfig('bootstrap-kubelet')}", f"--cert-dir={places.kubelet_pki}"]
    return {**lines, AGENT: [*lines[AGENT], *bootstrap, "--rotate-certificates=true"]}


def proxy_file(places: Places) -> Path:
    """The proxy's configuration in a cluster."""
    return places.kubernetes_dir / "proxy.yaml"


def proxy_config(alone: Mapping[str, object], places: Places, node_name: str) -> Content:
    """`alone`: what the proxy is configured to be without a cluster."""
    connection = alone.get("clientConnection")
    connection = {**(connection if isinstance(connection, dict) else {}), "kubeconfig": str(places.kubeconfig("proxy"))}
    value = {**_KIND, **alone, "clientConnection": connection, "hostnameOverride": node_name}
    comment = "# Made by longshore up of the proxy's own configuration; edit that one and run it again.\n"
    return Content(comment.encode() + yaml.safe_dump(value, sort_keys=False).encode(), PUBLIC)


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


def runs_as(unit: str, words: list[str]) -> bool:
    """Whether systemd runs the unit with these flags; False too after a run that was cut off before the restart."""
    return set(words[1:]) <= set(_command_line(unit))


def runs_below(unit: str, directory: Path) -> bool:
    """Whether a flag of the running unit names something in the directory."""
    return any(f"={directory}/" in word for word in _command_line(unit))


def _command_line(unit: str) -> list[str]:
    """Of its main process; empty where none runs."""
    pid = systemctl("show", "--property=MainPID", "--value", f"{unit}.service").strip()
    try:
        return Path("/proc", pid, "cmdline").read_text().split("\0")
    except OSError:
        return []


def start(commands: Mapping[str, list[str]], *, again: bool = False) -> None:
    """Have systemd run these, unless it does so already and not `again`. Raises Failure."""
    if again or not all(runs_as(unit, words) for unit, words in commands.items()):
        systemctl("daemon-reload")
        systemctl("restart", "--no-block", *(f"{unit}.service" for unit in commands))


def systemctl(*arguments: str) -> str:
    """What it prints. Raises Failure with what it says against it."""
    try:
        done = subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(f"cannot run systemctl {' '.join(arguments)}: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Failure(f"cannot run systemctl {' '.join(arguments)}: {said}")
    return done.stdout
