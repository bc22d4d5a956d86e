"""`proxy explain` against a real socket; `proxy plan` is in tests/kernel, where there are rules to plan."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.conftest import Node

ANSWER = {
    "client": "10.244.0.7", "address": "10.96.0.10", "port": 80, "protocol": "TCP", "verdict": "ACCEPT",
    "service": "default/web", "masquerade": True, "reasons": ["it is a cluster IP", "all endpoints"],
    "endpoints": [{"ip": "10.244.0.1", "port": 8080, "local": True}, {"ip": "fd00::1", "port": 8080, "local": False}],
}  # fmt: skip


def test_reasons_endpoints_and_verdict(live: Node) -> None:
    live.proxy = {"/v1/explain": ANSWER}
    result = live.run("proxy", "explain", "10.244.0.7", "10.96.0.10:80")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "1. it is a cluster IP",
        "2. all endpoints",
        "   10.244.0.1:8080 (this node)",
        "   [fd00::1]:8080",
        "verdict: ACCEPT, masqueraded",
    ]
    assert json.loads(live.run("proxy", "explain", "10.244.0.7", "[fd00::1]:53/udp", "-o", "json").output) == ANSWER


@pytest.mark.parametrize(
    "service", ["10.96.0.10", "10.96.0.10:0", "web:80", "10.96.0.10:80/icmp", "[fd00::1:80", "fd00::1:80"]
)
def test_what_is_no_address_with_a_port_is_wrong_usage(node: Node, service: str) -> None:
    result = node.run("proxy", "explain", "10.244.0.7", service)
    assert result.exit_code == 2
    assert "is not an address with a port" in result.output


def test_a_client_that_is_no_address_is_wrong_usage(node: Node) -> None:
    assert "'web' is not an IP address" in node.run("proxy", "explain", "web", "10.96.0.10:80").output


def test_without_a_proxy_it_says_so(node: Node) -> None:
    result = node.run("proxy", "explain", "10.244.0.7", "10.96.0.10:80")
    assert result.exit_code == 4
    assert "is longshore-proxy running?" in result.output
