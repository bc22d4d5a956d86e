"""What stands in the way of a control plane on this machine. I/O, changes nothing.

Before: `longshore up` knows its settings. Next: it makes files, or says what to clear away first. All of it is said
at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from cli.backups.places import read_raw_config
from cli.cluster import Cluster
from cli.preflight_machine import busy_ports, listening, wanted_ports
from control_plane.manifest_files import waiting_problem
from control_plane.settings import COMPONENTS, PORTS, Places

NODE_API_PORT = 10250
Holders = Mapping[int, tuple[int, str]]


def obstacles(cluster: Cluster, config_dir: Path, uid: int) -> Iterator[str]:
    """`<what>: <cause>; <what to do>`, one after the other, for a command that `uid` runs."""
    if uid != 0:
        yield "user: not root; run it with sudo"
    holders = listening()
    yield from port_obstacles(holders, runs_ours=cluster.places.manifest(COMPONENTS[0]) in cluster.files.record.made)
    yield from daemon_obstacles(holders, config_dir)
    yield from file_obstacles(cluster.places, cluster.files.record.made)


def port_obstacles(holders: Holders, *, runs_ours: bool) -> Iterator[str]:
    """`holders`: listening port -> (pid, command line); `runs_ours`: a control plane of ours may run already. Pure."""
    for port, component in PORTS.items():
        if port not in holders:
            continue
        pid, command = holders[port]
        if runs_ours and (not pid or os.path.basename(command.split(" ")[0]) == component):
            continue
        who = f"process {pid} ({command})" if pid else "a process of another namespace"
        yield f"port {port} of {component}: in use by {who}; stop that program"


def daemon_obstacles(holders: Holders, config_dir: Path) -> Iterator[str]:
    """Ports of agent and proxy, which every node has."""
    agent, proxy = (read_raw_config(config_dir / name) for name in ("agent.yaml", "proxy.yaml"))
    yield from daemon_port_obstacles(holders, agent, proxy)


def daemon_port_obstacles(holders: Holders, agent: Mapping[str, object], proxy: Mapping[str, object]) -> Iterator[str]:
    """The same for agent and proxy, as they are configured."""
    wanted = wanted_ports(agent, proxy)
    port = agent.get("port", NODE_API_PORT)
    if isinstance(port, int) and port:
        wanted[port] = ("longshore-agent", "port")
    for port, daemon, field, who in busy_ports(wanted, holders):
        yield f"port {port} of {daemon}: in use by {who}; stop that program, or choose another {field}"


def file_obstacles(places: Places, made: Mapping[Path, object]) -> Iterator[str]:
    """Files of another control plane."""
    for component in COMPONENTS:
        path = places.manifest(component)
        if path.exists() and path not in made:
            yield f"{path}: there already, and not by longshore; move it away, or end the control plane it belongs to"
    if places.manifests_aside.exists():
        yield waiting_problem(places)
    if places.etcd_data.exists() and places.etcd_data not in made:
        yield f"{places.etcd_data}: holds the data of another etcd; move it away, or choose another --etcd-dir"
