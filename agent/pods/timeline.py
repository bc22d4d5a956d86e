"""When each part of a pod's newest start began and ended: seen, admitted, volumes, sandbox, pull, create, start, ready.

Before: `act` and `execute` time what they do, `worker` and `publish` what they notice. Next: the record on disk and the
local API, where `longshore timeline` draws it. No I/O but the clock; only the pod's own worker changes it. One line for
each part and container is kept, so that a pod that crashes for weeks costs no more than one that started once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

Part: TypeAlias = tuple[str, str, int, float, float, int]

SEEN, ADMITTED, VOLUMES, SANDBOX = "seen", "admitted", "volumes", "sandbox"
PULL, CREATE, START, READY = "pull", "create", "start", "ready"


@dataclass(frozen=True, slots=True)
class Span:
    """One part. `container` is "" for the whole pod, `tries` counts the failed ones too. Unix seconds.

    `ended_s` is 0 for a part that has not succeeded yet.
    """

    what: str
    container: str
    attempt: int
    begun_s: float
    ended_s: float
    tries: int = 1


class Timeline:
    """The spans of one pod."""

    def __init__(self, parts: Iterable[Part] = (), now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._spans = {(part[0], part[1]): Span(*part) for part in parts}

    def mark(self, what: str, container: str = "", attempt: int = 0, at_s: float | None = None) -> None:
        """A moment, noted once for each attempt."""
        known = self._spans.get((what, container))
        if known is None or known.attempt != attempt:
            moment_s = self._now() if at_s is None else at_s
            self._spans[what, container] = Span(what, container, attempt, moment_s, moment_s)

    @contextmanager
    def timed(self, what: str, container: str = "", attempt: int = 0) -> Iterator[None]:
        """Time the block. What is tried again after a failure counts from the first time on."""
        before = self._spans.get((what, container))
        if before is not None and before.ended_s == 0 and before.attempt == attempt:
            span = replace(before, tries=before.tries + 1)
        else:
            span = Span(what, container, attempt, self._now(), 0.0)
        self._spans[what, container] = span
        yield
        self._spans[what, container] = replace(span, ended_s=self._now())

    def note_ready(self, ready: Mapping[str, bool]) -> None:
        """What the probes say now, by container: the first time that one is ready after its start counts."""
        for name, is_ready in ready.items():
            start = self._spans.get((START, name))
            if is_ready and start is not None and start.ended_s:
                self.mark(READY, name, start.attempt)

    def parts(self) -> list[Part]:
        """For the record, in order of time."""
        ordered = sorted(self._spans.values(), key=lambda span: (span.begun_s, span.ended_s or float("inf")))
        return [(one.what, one.container, one.attempt, one.begun_s, one.ended_s, one.tries) for one in ordered]

    def to_json(self) -> list[dict[str, object]]:
        """For the local API; `end` is null for what has not succeeded yet."""
        return [
            {"what": what, "container": name, "attempt": attempt, "begin": begun, "end": ended or None, "tries": tries}
            for what, name, attempt, begun, ended, tries in self.parts()
        ]
