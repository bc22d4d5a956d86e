"""Each file of tests/cases/services: objects in, the routes and problems written beside them out.

`flows`, where a case has them, are virtual packets through the iptables rules of those routes: "CLIENT -> ADDRESS:PORT:
OUTCOME", every possible outcome once.  Pods are 10.0.0.0/16 and fd00:1::/64, the node is 192.0.2.1.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.iptables.frame import RenderConfig
from proxy.iptables.render import render
from proxy.resolve import resolve
from proxy.routes import NodeFacts, RoutingTable
from proxy.sources.directory import DirectoryState, merge_files, parse_file
from proxy.sources.pod_list import parse_pods
from tests.unit.proxy.iptables.walk import Packet, walk

CASES = sorted((Path(__file__).parents[2] / "cases" / "services").glob("*.yaml"))

_NODE = "192.0.2.1"
_SHOWN = (
    "node_port", "affinity_timeout_s", "internal_local", "external_local", "external_ips", "load_balancer_ips",
    "allowed_sources", "health_check_node_port", "app_protocol",
)  # fmt: skip


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case: dict[str, Any] = yaml.safe_load(path.read_text())
    state, table = resolved(case)
    assert [_shown(asdict(route)) for route in table.routes] == case["routes"]
    assert [str(problem) for problem in table.errors] == case.get("problems", [])
    assert [str(error) for error, _ in state.errors] == case.get("errors", [])
    checks = [f"{c.namespace}/{c.service} {c.port} IPv{c.family}: {c.local_endpoints}" for c in table.health_checks]
    assert checks == case.get("healthChecks", [])
    assert {flow: _outcomes(flow, table) for flow in case.get("flows", {})} == case.get("flows", {})


def _outcomes(flow: str, table: RoutingTable) -> list[str]:
    client, _, where = flow.partition(" -> ")
    address, _, port = where.rpartition(":")
    number, _, protocol = port.partition("/")
    address = address.strip("[]")
    settings = RenderConfig(cluster_cidrs=("10.0.0.0/16", "fd00:1::/64"))
    packet = Packet(
        client, address, int(number), protocol or "TCP", frozenset({_NODE}), "" if client == _NODE else "eth0"
    )
    outcomes = walk(render(table.routes, settings, 6 if ":" in address else 4), packet)
    texts = [f"{one.target or one.verdict}{' masqueraded' if one.masqueraded else ''}" for one in outcomes]
    return sorted(texts)


def resolved(case: dict[str, Any]) -> tuple[DirectoryState, RoutingTable]:
    """What becomes of its files and pods."""
    state = DirectoryState()
    for files in case["files"]:
        parsed = {
            name: parse_file(name, yaml.safe_dump(value).encode(), state.files.get(name))
            for name, value in files.items()
        }
        state = merge_files(state, parsed)
    pods = parse_pods(json.dumps({"pods": [{"pod": pod} for pod in case.get("pods", [])]}).encode())
    return state, resolve(state.services, state.slices, pods, _node(case)).table


def _node(case: dict[str, Any]) -> NodeFacts:
    given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in case.get("node", {}).items()}
    return replace(NodeFacts("node-a"), **given)


def _shown(route: dict[str, Any]) -> dict[str, Any]:
    """Defaults left out, endpoints as `ip:port` or `ip:port local`."""
    name = route["name"]
    shown: dict[str, Any] = {
        "name": str(name),
        "vip": f"{_host(route['cluster_ip'])}:{route['port']}/{name.protocol}",
        "endpoints": [_endpoint(endpoint) for endpoint in route["endpoints"]],
    }
    if local := [_endpoint(endpoint) for endpoint in route["local_endpoints"]]:
        shown["local"] = local
    if draining := [_endpoint(endpoint) for endpoint in route["draining"]]:
        shown["draining"] = draining
    for field in _SHOWN:
        if route[field]:
            shown[field] = list(route[field]) if isinstance(route[field], tuple) else route[field]
    return shown


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip


def _endpoint(endpoint: dict[str, Any]) -> str:
    return f"{_host(endpoint['ip'])}:{endpoint['port']}" + (" local" if endpoint["local"] else "")


def test_there_are_cases() -> None:
    assert len(CASES) >= 10
