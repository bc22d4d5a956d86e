"""The four conditions of a Node: from what is wrong to Ready, from pressures to theirs, and what of it to write.

Pure.  Before: `node_look` asked the runtime and measured.  Next: `node_patch` puts them into a patch.  The words are
the kubelet's, because people and controllers look for them.  Source: API type NodeCondition, kubelet nodestatus.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.cluster.pressure import DISK, MEMORY, PIDS
from agent.node.runtime_facts import not_ready
from cri_client.types import StatusResponse

READY = "Ready"
RUNTIME_SILENCE_S = 30.0
_PRESSURES = {
    MEMORY: (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    DISK: (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    PIDS: (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition without its times."""

    type: str
    status: bool
    reason: str
    message: str


def node_conditions(problems: Sequence[str], pressures: Collection[str]) -> tuple[Condition, ...]:
    """All four, Ready last.  `problems` are what keeps the node from being ready."""
    found = [Condition(name, name in pressures, *texts[name in pressures]) for name, texts in _PRESSURES.items()]
    if not problems:
        found.append(Condition(READY, True, "KubeletReady", "kubelet is posting ready status"))
    else:
        message = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        found.append(Condition(READY, False, "KubeletNotReady", message))
    return tuple(found)


def runtime_problems(answer: StatusResponse | None, silent_s: float) -> list[str]:
    """What is wrong with the runtime; `answer` is its last one, `silent_s` how long ago it came."""
    if answer is None:
        return ["container runtime status check may not have completed yet"]
    problems = ["container runtime is down"] if silent_s >= RUNTIME_SILENCE_S else []
    return [*problems, *not_ready(answer).values()]


def condition_entries(
    known: Sequence[Mapping[str, Any]], wanted: Sequence[Condition], now: str, *, heartbeat: bool
) -> list[dict[str, Any]]:
    """The entries of a strategic merge patch of status.conditions; none where nothing is to be written.

    `known` are the Node's conditions, `now` is RFC 3339.  An entry that did not change has only its heartbeat, and
    those are written with any change or where a `heartbeat` is due.
    """
    before = {one.get("type"): one for one in known}
    entries = [_entry(before.get(one.type), one, now) for one in wanted]
    return entries if heartbeat or any(len(entry) > 2 for entry in entries) else []


def _entry(before: Mapping[str, Any] | None, wanted: Condition, now: str) -> dict[str, Any]:
    status = "True" if wanted.status else "False"
    told = {"status": status, "reason": wanted.reason, "message": wanted.message}
    entry: dict[str, Any] = {"type": wanted.type, "lastHeartbeatTime": now}
    if before is None or before.get("status") != status:
        return {**entry, **told, "lastTransitionTime": now}
    return {**entry, **{name: text for name, text in told.items() if before.get(name) != text}}
