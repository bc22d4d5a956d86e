"""The life of a pod on this node as a table: syncing -> terminating -> terminated -> removed. Pure.

`worker` holds the phase of its pod and moves it only through `advance`. These are the kubelet's three phases of a pod
worker, not the pod's API phase (that is `status`). A pod whose containers have all finished for good rests in
`terminated` until its manifest goes; `removed` means that nothing of it is left on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """What the agent is doing with a pod."""

    SYNCING = "syncing"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    REMOVED = "removed"


class Turn(StrEnum):
    """What can move a pod on."""

    END_WANTED = "end wanted"
    FINISHED = "finished"
    NOTHING_RUNS = "nothing runs"
    NOTHING_LEFT = "nothing left"


class IllegalTurnError(RuntimeError):
    """A turn the table does not have: a mistake in the caller, never in the input."""


TABLE: Mapping[Phase, Mapping[Turn, Phase]] = {
    Phase.SYNCING: {
        Turn.END_WANTED: Phase.TERMINATING,
        Turn.FINISHED: Phase.TERMINATING,
    },
    Phase.TERMINATING: {
        Turn.END_WANTED: Phase.TERMINATING,
        Turn.FINISHED: Phase.TERMINATING,
        Turn.NOTHING_RUNS: Phase.TERMINATED,
    },
    Phase.TERMINATED: {
        Turn.END_WANTED: Phase.TERMINATED,
        Turn.FINISHED: Phase.TERMINATED,
        Turn.NOTHING_RUNS: Phase.TERMINATED,
        Turn.NOTHING_LEFT: Phase.REMOVED,
    },
    Phase.REMOVED: {},
}


def advance(phase: Phase, turn: Turn) -> Phase:
    """The phase after `turn`. Raises IllegalTurnError for a turn the phase does not have."""
    try:
        return TABLE[phase][turn]
    except KeyError:
        raise IllegalTurnError(f"cannot take the turn {turn.value!r} of a pod that is {phase.value}") from None
