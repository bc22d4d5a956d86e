"""Which pods the sources want, and which sources have spoken. Pure.

Before: `manifest_feed` and `cluster.pod_source` say what they want. Next: `workers` starts and ends pods by it. What is
found here of a pod that nobody wants is to go, but only once it is certain that nobody does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lightkube.models.core_v1 import Pod

from agent.container_spec.labels import uid_of
from agent.pods.facts import Held
from agent.pods.wish import Ending, Wish

NOBODY = "nobody"
UNSAID = "unsaid"
"""In place of a source: no agent here has kept the pod; one has, and has not written down whose it was."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One pod a source wants, and where it is written.

    With an `ending` the source wants it stopped, and then to hear of it; `refused` is why it can never run here.
    """

    pod: Pod
    source: str
    ending: Ending | None = None
    refused: Held | None = None

    def same(self, other: Wanted | None) -> bool:
        """Whether a worker that was told of the other need not be told of this."""
        if other is None or self.pod is not other.pod:
            return False
        return (self.source, self.ending, self.refused) == (other.source, other.ending, other.refused)

    def to_wish(self) -> Wish:
        """As its worker is told."""
        return Wish(uid_of(self.pod), self.pod, self.source, self.ending, self.refused)


class Sources:
    """`wanted` is what all of them want, by pod UID."""

    def __init__(self) -> None:
        self.wanted: dict[str, Wanted] = {}
        self._of_source: dict[str, dict[str, Wanted]] = {}
        self._silent: set[str] = set()
        self._abandoned: set[str] = set()

    def expect(self, source: str) -> None:
        """This one will speak some time later."""
        self._silent.add(source)

    def abandon(self, source: str) -> None:
        """Nobody speaks for this one."""
        self._abandoned.add(source)

    def is_abandoned(self, source: str) -> bool:
        """Whether nobody speaks for it."""
        return source in self._abandoned

    def hear(self, wanted: Iterable[Wanted], source: str) -> bool:
        """Replace what a source wants; whether it has spoken for the first time."""
        first = source not in self._of_source
        self._silent.discard(source)
        self._of_source[source] = {uid_of(one.pod): one for one in wanted}
        self.wanted = {uid: one for of_source in self._of_source.values() for uid, one in of_source.items()}
        return first

    def is_judged(self, source: str) -> bool:
        """Whether it is known that nobody wants what is left of this source's pods."""
        return source in self._of_source or (source == UNSAID and not self._silent)
