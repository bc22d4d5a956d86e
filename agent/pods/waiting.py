"""What a pod waits for and until when: the other half of a plan. Pure.

Before: `plan` notes each step it holds back. Next: `status` shows it as a container's waiting state, the local API and
the CLI as the answer to "why does it not run".
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.pods.facts import Held


@dataclass(frozen=True, slots=True)
class Waiting:
    """One wait. `container` is "" when the whole pod waits; `until_s` is Unix seconds, None for "until it changes"."""

    what: str
    container: str
    reason: str
    message: str
    until_s: float | None = None
    since_s: float | None = None

    @staticmethod
    def held(what: str, container: str, held: Held) -> Waiting:
        """The wait for a step that failed lately."""
        return Waiting(what, container, held.reason, held.message, held.until_s)
