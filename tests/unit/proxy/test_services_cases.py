"""Each file of tests/cases/services: objects in, the routes and problems written beside them out."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.resolve import resolve
from proxy.routes import NodeFacts, RoutingTable
from proxy.sources.directory import DirectoryState, merge_files, parse_file
from proxy.sources.pod_list import parse_pods

CASES = sorted((Path(__file__).parents[2] / "cases" / "services").glob("*.yaml"))

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
        "name": f"{name['namespace']}/{name['service']}" + (f":{name['port']}" if name["port"] else ""),
        "vip": f"{_host(route['cluster_ip'])}:{route['port']}/{name['protocol']}",
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
