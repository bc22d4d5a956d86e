"""The timeline of a real start, before and after the agent is killed, and of a container's later start."""

from __future__ import annotations

import itertools
import json
from typing import Any

from lab.manifests import web_pod
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION

PARTS = ["seen", "admitted", "volumes", "sandbox", "pull", "create", "start", "ready"]


def timeline(node: LabNode) -> list[dict[str, Any]]:
    spans: list[dict[str, Any]] = json.loads(node.longshore("timeline", "web", "-o", "json"))["timeline"]
    return spans


@ONE_VERSION
def test_every_part_of_a_start_is_timed_and_outlives_the_agent(node: LabNode) -> None:
    node.start_agent()
    node.put_pod(web_pod("web"))
    node.wait_ready("web")
    spans = timeline(node)
    assert [span["what"] for span in spans] == PARTS
    for before, after in itertools.pairwise(spans):
        assert before["begin"] <= before["end"] <= after["end"]
    started = node.pod("web")["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    assert started
    records = list((node.root_dir / "records").glob("*.json"))
    node.wait(lambda: '"ready"' in records[0].read_text(), "the timeline to be written down")
    node.kill_agent()
    node.start_agent()
    node.wait_ready("web")
    assert timeline(node) == spans
    first = node.container_id("web")
    node.kill_container(first)
    node.wait(lambda: node.container_id("web") not in ("", first), "the next run")
    node.wait_ready("web")
    again = {span["what"]: span for span in timeline(node)}
    assert (again["start"]["attempt"], again["ready"]["attempt"]) == (1, 1)
    assert again["sandbox"] == spans[3]
    assert "restart 1" in node.longshore("timeline", "web")
