"""`pods`, `services`, `status` against a real socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import termios
from typing import Any

import pytest
import yaml

from tests.unit.cli.conftest import Node


def pod(name: str, namespace: str = "default", node: str = "n1") -> dict[str, Any]:
    running = {"name": "web", "ready": True, "restartCount": 0, "state": {"running": {}}}
    return {
        "pod": {
            "metadata": {"name": f"{name}-{node}", "namespace": namespace, "uid": "u1"},
            "spec": {"nodeName": node, "containers": [{"name": "web", "image": "web:1"}]},
            "status": {"phase": "Running", "podIP": "10.1.0.4", "containerStatuses": [running]},
        },
        "source": f"/m/{name}.yaml",
        "waiting": [],
    }


ERROR = {
    "path": "/m/bad.yaml",
    "field": "spec.containers[0].imag",
    "line": 7,
    "message": "unknown field",
    "lastGood": True,
}
PODS = {"pods": [pod("web"), pod("api", "prod")], "errors": [ERROR]}
SERVICES = {
    "services": [
        {
            "namespace": "default",
            "name": "web",
            "source": "/s/web.yaml",
            "type": "NodePort",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:96::10"],
            "externalIPs": ["203.0.113.9"],
            "loadBalancerIPs": ["203.0.113.1"],
            "selector": {"app": "web"},
            "sessionAffinityTimeoutSeconds": 60,
            "internalTrafficPolicy": "Cluster",
            "externalTrafficPolicy": "Local",
            "problems": [{"field": "spec.ports[1]", "message": "port clash"}],
            "ports": [
                {
                    "name": "http",
                    "protocol": "TCP",
                    "port": 80,
                    "targetPort": "http",
                    "nodePort": 30080,
                    "programmed": True,
                    "endpoints": [{"ip": f"10.1.0.{n}", "port": 8080, "local": True} for n in range(1, 6)],
                    "localEndpoints": [],
                },
                {
                    "name": "dns",
                    "protocol": "UDP",
                    "port": 53,
                    "targetPort": 53,
                    "nodePort": 0,
                    "programmed": True,
                    "endpoints": [],
                    "localEndpoints": [],
                },
                {
                    "name": "off",
                    "protocol": "TCP",
                    "port": 81,
                    "targetPort": 81,
                    "nodePort": 0,
                    "programmed": False,
                    "endpoints": [],
                    "localEndpoints": [],
                },
            ],
        },
        {
            "namespace": "prod",
            "name": "headless",
            "source": "/s/h.yaml",
            "type": "none",
            "clusterIP": "",
            "selector": {},
            "sessionAffinityTimeoutSeconds": None,
            "ports": [],
            "problems": [],
        },
    ],
    "errors": [{"path": "/s/bad.yaml", "field": "", "line": None, "message": "file is empty", "lastGood": False}],
}
AGENT_STATUS = {
    "nodeName": "n1",
    "nodeIP": "192.0.2.1",
    "version": "0.1.0",
    "pid": 7,
    "startTime": "2026-01-31T11:00:00Z",
    "ready": True,
    "runtime": {"name": "containerd", "version": "1.6.20", "endpoint": "unix:///c.sock", "connected": True},
    "podCount": 2,
}
PROXY_STATUS = {
    "nodeName": "n1",
    "version": "0.1.0",
    "pid": 8,
    "startTime": "2026-01-31T11:00:00Z",
    "ready": True,
    "mode": "iptables",
    "healthy": True,
    "reason": "",
    "waitingFor": [],
    "lastSyncSecondsAgo": 3.2,
    "agent": {"connected": True, "error": None},
}


@pytest.fixture
def full(live: Node) -> Node:
    live.agent = {"/v1/pods": PODS, "/v1/status": AGENT_STATUS}
    live.proxy = {"/v1/services": SERVICES, "/v1/status": PROXY_STATUS}
    return live


def test_pods_table(full: Node) -> None:
    result = full.run("pods")
    assert result.exit_code == 0
    header, first, second = result.stdout.splitlines()
    assert header.split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "IP", "AGE", "WAITS", "FOR"]
    assert first.split() == ["default", "web-n1", "1/1", "Running", "0", "10.1.0.4", "<unknown>"]
    assert second.split()[:2] == ["prod", "api-n1"]
    expected = (
        "cannot read /m/bad.yaml:7: spec.containers[0].imag: unknown field (the last good version stays in use)\n"
    )
    assert result.stderr == expected


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["-n", "prod"], ["api-n1"]),
        (["web"], ["web-n1"]),
        (["web-n1"], ["web-n1"]),
        (["pod/web", "api"], ["web-n1", "api-n1"]),
        (["prod/api"], ["api-n1"]),
    ],
)
def test_pods_by_name(full: Node, arguments: list[str], names: list[str]) -> None:
    result = full.run("pods", "-o", "name", *arguments)
    assert result.stdout.split() == [f"pod/{name}" for name in names]


@pytest.mark.parametrize("arguments", [["nope"], ["prod/web"], ["web", "-n", "prod"]])
def test_pods_that_are_not_there(full: Node, arguments: list[str]) -> None:
    result = full.run("pods", *arguments)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot find pod" in result.stderr


def test_pods_for_programs(full: Node) -> None:
    assert json.loads(full.run("pods", "-o", "json").stdout) == PODS
    assert yaml.safe_load(full.run("pods", "-o", "yaml").stdout) == PODS
    assert "web:1" in full.run("pods", "-o", "wide").stdout


def test_no_pods(live: Node) -> None:
    live.agent = {"/v1/pods": {"pods": [], "errors": []}}
    result = live.run("pods")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No pods.\n")


def test_services_table(full: Node) -> None:
    result = full.run("services")
    assert result.exit_code == 0
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["NAMESPACE", "NAME", "TYPE", "ADDRESS", "NODE PORT", "ENDPOINTS"],
        [
            "default",
            "web",
            "NodePort",
            "10.96.0.10:80/TCP",
            "30080",
            "10.1.0.1:8080,10.1.0.2:8080,10.1.0.3:8080 + 2 more",
        ],
        ["default", "web", "NodePort", "10.96.0.10:53/UDP", "<none>", "<none> (connections are refused)"],
        ["default", "web", "NodePort", "10.96.0.10:81/TCP", "<none>", "<not programmed>"],
        ["prod", "headless", "none", "None", "<none>", "<none>"],
    ]
    assert result.stderr == (
        "cannot program default/web: spec.ports[1]: port clash\ncannot read /s/bad.yaml: file is empty\n"
    )


def test_services_otherwise(full: Node) -> None:
    wide = full.run("services", "-o", "wide", "web").stdout
    assert "10.1.0.5:8080" in wide
    assert "ClientIP 60s" in wide
    assert "10.96.0.10:80/TCP,fd00:96::10" in wide
    assert "203.0.113.9,203.0.113.1" in wide
    assert full.run("services", "-o", "name", "-n", "prod").stdout == "service/headless\n"
    assert json.loads(full.run("services", "-o", "json").stdout) == SERVICES
    assert full.run("services", "nope").exit_code == 3


def test_status_when_all_is_well(full: Node) -> None:
    result = full.run("status")
    assert result.exit_code == 0, result.output
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
        ["agent", "ready"],
        ["runtime", "ready"],
        ["proxy", "ready"],
    ]
    assert "containerd 1.6.20 at unix:///c.sock" in result.stdout
    assert json.loads(full.run("status", "-o", "json").stdout)["agent"] == AGENT_STATUS


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"agent": {"ready": False}}, "agent"),
        ({"agent": {"runtime": {"name": "containerd", "connected": False}}}, "runtime"),
        ({"agent": {"runtime": {}}}, "runtime"),
        ({"proxy": {"ready": False, "waitingFor": ["the agent"]}}, "proxy"),
        ({"proxy": {"healthy": False, "reason": "no sync for 5 minutes"}}, "proxy"),
    ],
)
def test_status_when_something_is_not_well(full: Node, change: dict[str, dict[str, Any]], part: str) -> None:
    full.agent = {"/v1/status": {**AGENT_STATUS, **change.get("agent", {})}}
    full.proxy = {"/v1/status": {**PROXY_STATUS, **change.get("proxy", {})}}
    result = full.run("status")
    assert result.exit_code == 1
    (line,) = [
        line for line in result.stdout.splitlines()[1:] if line.split("  ")[1].strip() != "ready" and "not" in line
    ]
    assert line.startswith(part)


@pytest.mark.parametrize(
    ("shutdown", "row", "exit_code"),
    [
        ({"state": "off"}, "", 0),
        ({"state": "idle", "budgetSeconds": 35, "inhibitor": True}, "shutdown  ready", 0),
        ({"state": "idle", "inhibitor": False, "inhibitorMessage": "no bus"}, "shutdown  no inhibitor", 0),
        ({"state": "stopping", "trigger": "logind", "podsLeft": ["default/web"]}, "shutdown  under way", 1),
        ({"state": "down", "trigger": "person", "message": "given up"}, "shutdown  pods are down", 1),
    ],
)
def test_status_shows_the_shutdown_of_the_node(full: Node, shutdown: dict[str, Any], row: str, exit_code: int) -> None:
    full.agent = {"/v1/status": {**AGENT_STATUS, "shutdown": shutdown}}
    result = full.run("status")
    assert result.exit_code == exit_code, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines() if line.startswith("shutdown")]
    assert [line.startswith(" ".join(row.split())) for line in lines] == ([True] if row else [])
    if row:
        assert ("logind waits for the pods" in lines[0]) is shutdown.get("inhibitor", False)
        assert shutdown.get("message", "") in lines[0]
        assert shutdown.get("inhibitorMessage", "") in lines[0]


@pytest.mark.parametrize(
    ("found", "state", "exit_code"),
    [
        ({"connected": True, "registered": True}, "ready", 0),
        ({"connected": True, "registered": False}, "not registered", 1),
        ({"connected": False, "registered": True, "error": "cannot watch it"}, "not connected", 1),
        ({"connected": False, "registered": False, "waiting": "kubectl certificate approve x"}, "not connected", 1),
        ({"connected": True, "registered": True, "rival": "another agent is node a too"}, "two nodes", 1),
    ],
)
def test_status_of_a_node_of_a_cluster(full: Node, found: dict[str, Any], state: str, exit_code: int) -> None:
    api_server = {"server": "https://10.0.0.1:6443", **found}
    full.agent = {"/v1/status": {**AGENT_STATUS, "apiServer": api_server}}
    result = full.run("status")
    assert result.exit_code == exit_code, result.output
    line = next(line for line in result.stdout.splitlines() if line.startswith("api server"))
    assert " ".join(line.split()).startswith(f"api server {state} https://10.0.0.1:6443")
    assert all(text in line for text in found.values() if isinstance(text, str))


def test_daemons_that_are_down(node: Node) -> None:
    for arguments in (["pods"], ["services"]):
        result = node.run(*arguments)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "No such file or directory; is longshore-" in result.stderr
    result = node.run("status")
    assert result.exit_code == 4
    assert result.stdout.count(" down ") == 2


def test_a_socket_that_nobody_serves(node: Node) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(node.base / "agent.sock"))
    result = node.run("pods")
    assert result.exit_code == 4
    assert "Connection refused" in result.stderr


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "answers 404"),
        (b"hello", "JSON is malformed"),
        (b'{"pods": ' + b"[" * 100_000, "ecursion"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `pods`"),
        (b'{"pods": null}', "at `$.pods`"),
        (b'{"pods": [1]}', "at `$.pods[0]`"),
        (b'{"pods": [{"pod": {"metadata": {}}}]}', "at `$.pods[0].pod.metadata`"),
        (b'{"pods": [], "errors": [1]}', "at `$.errors[0]`"),
    ],
)
@pytest.mark.parametrize("command", ["pods", "logs"])
def test_odd_answers(live: Node, answer: bytes | None, words: str, command: str) -> None:
    live.agent = {"/v1/pods": answer, "/v1/status": {}}
    result = live.run(*{"pods": ["pods"], "logs": ["logs", "web"]}[command])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == (1 if command == "pods" else 4)
    assert words in result.stderr
    assert result.stdout == ""


def test_what_daemons_quote_cannot_break_a_line_or_the_terminal(live: Node) -> None:
    errors = [{"path": "/m/a\nb.yaml", "field": "", "line": 3, "message": "odd \x1b[31m", "lastGood": False}]
    metadata = {"name": "web-n1", "namespace": "default"}
    waiting = [{"what": "c", "reason": "Error", "message": "one\ntwo\x1b[2J", "until": "tomorrow"}]
    live.agent = {"/v1/pods": {"pods": [{"pod": {"metadata": metadata}, "waiting": waiting}], "errors": errors}}
    result = live.run("pods")
    assert len(result.stdout.splitlines()) == 2
    assert result.stdout.endswith(r"c: Error: one\ntwo\x1b[2J" + "\n")
    assert result.stderr == r"cannot read /m/a\nb.yaml:3: odd \x1b[31m" + "\n"


def test_a_narrow_terminal_cuts_no_name_off(live: Node) -> None:
    name = "a-rather-long-name-of-a-pod-node1"
    live.agent = {
        "/v1/pods": {"pods": [{"pod": {"metadata": {"name": name, "namespace": "default"}}}], "errors": [ERROR]}
    }
    primary, secondary = os.openpty()
    termios.tcsetwinsize(secondary, (24, 30))
    command = [sys.executable, "-m", "cli.main", f"--root-dir={live.base}", "pods"]
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    environment |= {"TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=secondary, stderr=secondary, env=environment) as process:
        os.close(secondary)
        seen = b""
        with contextlib.suppress(OSError), open(primary, "rb", buffering=0) as terminal:
            while data := terminal.read(4096):
                seen += data
        assert process.wait(60) == 0
    assert name in seen.decode()
    assert b"\x1b[3" not in seen, "no colour where NO_COLOR is set"


def test_a_pipe_that_is_closed_early_is_no_failure_worth_a_traceback(live: Node) -> None:
    pods = [{"pod": {"metadata": {"name": f"pod-{number}", "namespace": "default"}}} for number in range(5000)]
    live.agent = {"/v1/pods": {"pods": pods, "errors": []}}
    longshore = [sys.executable, "-m", "cli.main", f"--root-dir={live.base}", "pods"]
    with subprocess.Popen(longshore, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(60)


@pytest.mark.parametrize(
    "arguments",
    [["frobnicate"], ["pods", "-o", "xml"], ["logs"], ["delete"], ["apply"], ["completion", "tcsh"], ["--nope"]],
)
def test_wrong_usage(node: Node, arguments: list[str]) -> None:
    assert node.run(*arguments).exit_code == 2


@pytest.mark.parametrize("shell", ["zsh", "fish", "bash"])
def test_completion_scripts(node: Node, shell: str) -> None:
    result = node.run("completion", shell)
    assert result.exit_code == 0
    assert "_LONGSHORE_COMPLETE" in result.stdout


def test_help_names_every_command(node: Node) -> None:
    text = node.run("--help").stdout
    for name in ("pods", "services", "logs", "status", "check", "apply", "delete", "shutdown", "completion"):
        assert f"\n  {name} " in text
        assert node.run(name, "--help").exit_code == 0
