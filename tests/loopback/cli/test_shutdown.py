"""`longshore shutdown` against a real socket."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Node


def lines(*answers: dict[str, Any]) -> bytes:
    return b"".join(json.dumps({"budgetSeconds": 35, **one}).encode() + b"\n" for one in answers)


def agent(live: Node, *answers: dict[str, Any]) -> Node:
    live.agent = {"/v1/status": {"pid": 1}, "/v1/shutdown": lines(*answers)}
    return live


def test_while_the_machine_stays_up_nothing_is_asked(live: Node) -> None:
    live.agent = {}  # any request would be answered 404
    result = live.run("shutdown")
    assert result.exit_code == 0
    assert result.stdout.startswith("the machine is not going down (systemctl is-system-running: ")


def test_what_changes_is_printed(live: Node) -> None:
    left = {"state": "stopping", "podsLeft": ["default/a", "default/b"]}
    result = agent(live, left, left, {"state": "stopping", "podsLeft": ["default/b"]}, {"state": "down"}).run(
        "shutdown", "--now"
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "stopping pods, 2 left: default/a, default/b",
        "stopping pods, 1 left: default/b",
        "all pods are down",
    ]


@pytest.mark.parametrize(
    ("answers", "exit_code", "said"),
    [
        ([{"state": "off"}], 0, "shutdownGracePeriod is 0"),
        ([{"state": "down", "message": "given up: 1 pods"}], 1, "cannot stop all pods: given up: 1 pods"),
        ([{"state": "idle"}], 1, "cannot stop all pods: the shutdown was called off"),
        ([{"state": "stopping"}], 1, "the agent ended before it was done"),
        ([], 1, "the agent ended before it was done"),
    ],
)
def test_how_it_ends(live: Node, answers: list[dict[str, Any]], exit_code: int, said: str) -> None:
    result = agent(live, *answers).run("shutdown", "--now")
    assert result.exit_code == exit_code
    assert said in result.output


class _DiesAfter(dict[str, Any]):
    """The answers of an agent that is killed while it stops pods."""

    def get(self, path: str, default: Any = None) -> Any:
        found = super().get(path, default)
        if path == "/v1/shutdown":
            self.clear()
        return found


def test_an_agent_that_dies_while_the_machine_goes_down_is_replaced(
    live: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.shutdown.read_system_state", lambda: "stopping")
    monkeypatch.setattr("sys.argv", [str(Path(sys.executable).with_name("longshore"))])  # xdist has another
    live.agent = _DiesAfter(agent(live, {"state": "stopping", "podsLeft": ["default/a"]}).agent)
    (live.base / "arguments.json").write_text('["--no-such-flag"]')  # one that ends at once, with an exit status
    result = live.run("shutdown")
    assert result.stdout.splitlines() == [
        "stopping pods, 1 left: default/a",
        "cannot stop the pods: the agent ended before it was done",
        "no agent answers: starting one to stop the pods",
    ]
    assert "one of our own ended with " in result.stderr


@pytest.mark.parametrize("text", [None, "{}", "["])
def test_where_no_agent_lives_and_none_ever_did(node: Node, text: str | None) -> None:
    if text is not None:
        (node.base / "arguments.json").write_text(text)
    result = node.run("shutdown", "--now")
    assert result.exit_code == 1
    assert "cannot stop the pods: no agent answers, and how the last was started is not known: " in result.stderr


def test_what_is_no_answer(live: Node) -> None:
    live.agent = {"/v1/status": {"pid": 1}, "/v1/shutdown": b"<html>\n"}
    result = live.run("shutdown", "--now")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "longshore: cannot POST /v1/shutdown?trigger=person at " in result.stderr


def test_an_agent_too_old_to_know_of_it(live: Node) -> None:
    live.agent = {"/v1/status": {"pid": 1}}
    result = live.run("shutdown", "--now")
    assert result.exit_code == 1
    assert "the agent answers 404 Not Found" in result.stderr


def test_called_off(live: Node) -> None:
    result = agent(live, {"state": "idle"}).run("shutdown", "--cancel")
    assert (result.exit_code, result.stdout) == (0, "the node is not shutting down\n")
