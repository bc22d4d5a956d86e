"""The agent's stream: understood line by line on a real socket, outlived when it breaks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from daemonkit.unix_http import serve_unix
from proxy.sources.agent_pods import AgentView, watch_agent
from proxy.sources.pod_list import parse_pods


def line(*pods: dict[str, Any]) -> bytes:
    return json.dumps({"pods": [{"pod": pod, "source": "x", "waiting": []} for pod in pods], "errors": []}).encode()


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "n", "labels": {"a": "b"}},
        "spec": {"containers": []},
        "status": status,
    }


def test_facts_of_a_pod() -> None:
    (facts,) = parse_pods(
        line(pod("x", phase="Running", podIP="fd00::1", podIPs=[{"ip": "fd00::1"}, {"ip": "10.0.0.1"}],
                 conditions=[{"type": "Ready", "status": "True", "more": 1}]))
    )  # fmt: skip
    assert (facts.namespace, facts.name, facts.ips, facts.serving, facts.finished) == (
        "n",
        "x",
        ("fd00::1", "10.0.0.1"),
        True,
        False,
    )


@pytest.mark.parametrize("text", [b"nonsense", b"[]", b'{"pods": [{"pod": {}}]}', b'{"errors": []}'])
def test_what_is_no_pod_list_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_pods(text)


async def until(views: list[AgentView], wanted: int) -> AgentView:
    for _ in range(500):
        if len(views) >= wanted:
            return views[wanted - 1]
        await asyncio.sleep(0.01)
    raise AssertionError(f"only {views}")


async def test_the_stream_is_followed_over_a_restart_of_the_agent(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    big = pod("big", podIP="10.0.0.2", message="x" * 300_000)
    scripts = [[line(pod("a", podIP="10.0.0.1")), line(pod("a", podIP="10.0.0.1"), big)], [line(big)]]

    async def watch(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true"
        response = web.StreamResponse()
        await response.prepare(request)
        for text in scripts.pop(0):
            await response.write(text + b"\n")
            await asyncio.sleep(0.05)
        return response

    views: list[AgentView] = []

    async def follow() -> None:
        async for view in watch_agent(path):
            views.append(view)  # noqa: PERF401 # the test looks while it grows

    async with asyncio.TaskGroup() as group:
        follower = group.create_task(follow())
        assert "longshore-agent" in (await until(views, 1)).error
        app = web.Application()
        app.add_routes([web.get("/v1/pods", watch)])
        async with serve_unix(app, path):
            first, second = await until(views, 2), await until(views, 3)
            assert [p.name for p in first.pods or ()] == ["a"]
            assert [p.name for p in second.pods or ()] == ["a", "big"]
            lost = await until(views, 4)
            assert (lost.connected, lost.pods) == (False, second.pods)
            assert "closed the stream" in lost.error
            assert [p.name for p in (await until(views, 5)).pods or ()] == ["big"]
        follower.cancel()
