from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.unit.cli.conftest import Node


def span(what: str, begin: float, end: float | None, container: str = "", attempt: int = 0, tries: int = 1) -> Any:
    return {
        "what": what, "container": container, "attempt": attempt, "begin": begin, "end": end, "tries": tries,
    }  # fmt: skip


START = [
    span("seen", 1000.0, 1000.0),
    span("admitted", 1000.0, 1000.0),
    span("sandbox", 1000.0, 1000.5),
    span("pull", 1000.5, 1000.5, "web"),
    span("create", 1000.5, 1000.75, "web"),
    span("start", 1000.75, 1001.0, "web"),
    span("ready", 1002.0, 1002.0, "web"),
]


@pytest.fixture
def started(live: Node) -> Node:
    pod = {"metadata": {"name": "web-n1", "namespace": "default", "uid": "u1"}, "spec": {"nodeName": "n1"}}
    live.agent = {
        "/v1/status": {"nodeName": "n1"},
        "/v1/pods": {"pods": [{"pod": pod, "source": "", "waiting": [], "timeline": START}], "errors": []},
    }
    return live


def bars(text: str) -> dict[str, tuple[int, int]]:
    """Title -> where its bar begins and how long it is."""
    found = {}
    for line in text.splitlines()[1:]:
        bar = re.search("[█▏▎▍▌▋▊▉·]+", line)
        assert bar is not None, line
        found[line.split("  ")[0].strip()] = (bar.start(), len(bar[0]))
    return found


def test_bars_lie_where_the_time_went(started: Node) -> None:
    result = started.run("timeline", "web")
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.startswith("default/web-n1: 2.000 s from ")
    assert [row.split("  ")[0].strip() for row in rows] == [
        "seen", "admitted", "sandbox", "web pull", "web create", "web start", "web ready",
    ]  # fmt: skip
    assert "0.500 s" in rows[2]
    drawn = bars(result.stdout)
    begins = [begin for begin, _ in drawn.values()]
    assert begins == sorted(begins)
    assert drawn["sandbox"][1] == pytest.approx(2 * drawn["web create"][1], abs=2)
    assert drawn["web ready"][1] == pytest.approx(2 * drawn["sandbox"][1], abs=2)


def test_a_restart_has_bars_of_its_own_and_what_goes_on_has_no_end(started: Node) -> None:
    entry = started.agent["/v1/pods"]["pods"][0]
    entry["timeline"] = [
        *START[:3],
        span("create", 5000.0, 5000.5, "web", 3),
        span("start", 5000.5, None, "web", 3, tries=4),
    ]
    lines = started.run("timeline", "web").stdout.splitlines()
    (restart,) = [number for number, line in enumerate(lines) if "container web, restart 3" in line]
    assert "0.500 s" in lines[restart + 1]
    assert "4 tries" in lines[restart + 2]


def test_for_programs(started: Node) -> None:
    result = started.run("timeline", "web", "-o", "json")
    assert json.loads(result.stdout) == {"namespace": "default", "name": "web-n1", "timeline": START}


def test_what_is_not_there(started: Node) -> None:
    assert started.run("timeline", "nope").exit_code == 3
    started.agent["/v1/pods"]["pods"][0]["timeline"] = []
    result = started.run("timeline", "web")
    assert (result.exit_code, "has not seen it start" in result.stderr) == (3, True)
