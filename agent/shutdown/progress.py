"""Who began a shutdown of the node, and how far it is: what `node_shutdown` tells. Pure.

Before: `node_shutdown` knows both. Next: the local API, `longshore shutdown` and the status of the node show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from kube_objects.encode import rfc3339


class Trigger(StrEnum):
    """Who said that the node goes down."""

    LOGIND = "logind"
    STOP_UNIT = "stop-unit"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Progress:
    """For people. `state`: off (no grace period is configured), idle, stopping or down. `pods_left` by full name."""

    state: str
    trigger: str = ""
    since_s: float = 0.0
    budget_s: float = 0.0
    pods_left: tuple[str, ...] = ()
    message: str = ""

    def to_json(self) -> dict[str, object]:
        """As the local API shows it."""
        since = rfc3339(datetime.fromtimestamp(self.since_s, UTC)) if self.since_s else None
        return {
            "state": self.state,
            "trigger": self.trigger,
            "since": since,
            "budgetSeconds": self.budget_s,
            "podsLeft": list(self.pods_left),
            "message": self.message,
        }
