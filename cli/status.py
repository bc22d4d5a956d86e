"""`longshore status`: are the agent, the runtime and the proxy well?

Before: both local APIs. Effects: prints; exit status 4 where a daemon cannot be reached, 1 where one is not well.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import click

from cli.ages import age
from cli.failure import FAILED, UNREACHABLE, Failure
from cli.output import format_option, print_table, print_value
from cli.target import Json, Target, pass_target

Row = tuple[str, str, str]
_WELL = ("ready", "no inhibitor")  # the stop unit does without


@click.command()
@format_option("table", "json", "yaml")
@pass_target
@click.pass_context
def status(context: click.Context, target: Target, output: str) -> None:
    """Show whether the agent, the runtime and the proxy are well."""
    problems: dict[str, str] = {}
    found: dict[str, Json | None] = {}
    for name, ask in (("agent", target.agent), ("proxy", target.proxy)):
        try:
            found[name] = ask("/v1/status")
        except Failure as failure:
            found[name], problems[name] = None, failure.format_message()
    now = datetime.datetime.now(datetime.UTC)
    rows = [*_agent_rows(found["agent"], problems, now), *_proxy_rows(found["proxy"], problems, now)]
    if output == "table":
        print_table(("PART", "STATE", "DETAILS"), rows)
    else:
        print_value({**found, "problems": problems}, output)
    if problems:
        context.exit(UNREACHABLE)
    if any(row[1] not in _WELL for row in rows):
        context.exit(FAILED)


def _agent_rows(status: Json | None, problems: dict[str, str], now: datetime.datetime) -> Iterator[Row]:
    if status is None:
        yield ("agent", "down", problems["agent"])
        return
    where = f"node {status.get('nodeName', '?')} ({status.get('nodeIP') or 'no IP'})"
    pods = f"{status.get('podCount', 0)} pods"
    yield ("agent", _state(status.get("ready")), f"{_process(status, now)}, {where}, {pods}")
    runtime = status.get("runtime") or {}
    name = " ".join(str(runtime[key]) for key in ("name", "version") if runtime.get(key)) or "unknown runtime"
    since = f", since {age(runtime['since'], now)}" if runtime.get("since") else ""
    connected = runtime.get("connected", bool(runtime.get("name")))
    text = f"{name} at {runtime.get('endpoint', '?')}{since}"
    yield ("runtime", "ready" if connected else "not connected", text)
    if status.get("apiServer"):
        yield _api_server_row(status["apiServer"])
    yield from _shutdown_rows(status.get("shutdown") or {}, now)


def _api_server_row(api: Json) -> Row:
    """Only on a node of a cluster."""
    state = "ready" if api.get("connected") and api.get("registered") else "not connected"
    if api.get("connected") and not api.get("registered"):
        state = "not registered"
    parts = [str(api.get("server", "?")), *(str(api.get(name) or "") for name in ("error", "waiting", "rival"))]
    return ("api server", "two nodes" if api.get("rival") else state, ", ".join(filter(None, parts)))


def _shutdown_rows(shutdown: Json, now: datetime.datetime) -> Iterator[Row]:
    """Only where the node is to stop its pods before it goes down."""
    state = shutdown.get("state", "off")
    if state == "off":
        return
    held = shutdown.get("inhibitor", False)
    lock = "logind waits for the pods" if held else "logind does not wait for the pods"
    parts = [lock, shutdown.get("inhibitorMessage", ""), shutdown.get("message", "")]
    if state == "idle":
        parts.insert(0, f"takes up to {shutdown.get('budgetSeconds', 0):g}s")
        yield ("shutdown", "ready" if held else "no inhibitor", ", ".join(filter(None, parts)))
        return
    left = shutdown.get("podsLeft") or []
    parts.insert(
        0, f"asked by {shutdown.get('trigger', '?')} {age(shutdown.get('since'), now)} ago, {len(left)} pods left"
    )
    yield ("shutdown", "pods are down" if state == "down" else "under way", ", ".join(filter(None, parts)))


def _proxy_rows(status: Json | None, problems: dict[str, str], now: datetime.datetime) -> Iterator[Row]:
    if status is None:
        yield ("proxy", "down", problems["proxy"])
        return
    parts = [_process(status, now), f"mode {status.get('mode', '?')}"]
    if status.get("lastSyncSecondsAgo") is not None:
        parts.append(f"last sync {status['lastSyncSecondsAgo']:.0f}s ago")
    parts += [f"waits for {one}" for one in status.get("waitingFor") or ()]
    parts += dict.fromkeys(str(status[key]) for key in ("reason", "lastError") if status.get(key))
    agent: dict[str, Any] = status.get("agent") or {}
    if agent.get("error"):
        parts.append(f"agent: {agent['error']}")
    yield ("proxy", _state(status.get("ready") and status.get("healthy", True)), ", ".join(parts))


def _process(status: Json, now: datetime.datetime) -> str:
    return f"version {status.get('version', '?')}, pid {status.get('pid', '?')}, up {age(status.get('startTime'), now)}"


def _state(ready: object) -> str:
    return "ready" if ready else "not ready"
