"""The parts of a start: timed, tried again, restarted, kept over a restart of the agent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.pods.memory import PodMemory
from agent.pods.recall import recall, to_record
from agent.pods.timeline import ADMITTED, CREATE, PULL, READY, SANDBOX, SEEN, START, Timeline


def clock() -> Iterator[float]:
    yield from (float(second) for second in range(100, 200))


def timeline(*parts: tuple[str, str, int, float, float, int]) -> Timeline:
    ticks = clock()
    return Timeline(parts, now=lambda: next(ticks))


def test_the_parts_are_in_the_order_of_time() -> None:
    line = timeline()
    line.mark(SEEN, at_s=99.5)
    line.mark(ADMITTED)
    with line.timed(SANDBOX):
        pass
    with line.timed(START, "web"):
        pass
    line.note_ready({"web": False, "other": True})
    line.note_ready({"web": True})
    line.note_ready({"web": True})
    assert line.parts() == [
        (SEEN, "", 0, 99.5, 99.5, 1),
        (ADMITTED, "", 0, 100.0, 100.0, 1),
        (SANDBOX, "", 0, 101.0, 102.0, 1),
        (START, "web", 0, 103.0, 104.0, 1),
        (READY, "web", 0, 105.0, 105.0, 1),
    ]


def test_what_is_tried_again_counts_from_the_first_time() -> None:
    line = timeline()
    for _ in range(2):
        with pytest.raises(OSError, match="no"), line.timed(PULL, "web"):
            raise OSError("no")
    assert line.to_json() == [{"what": PULL, "container": "web", "attempt": 0, "begin": 100.0, "end": None, "tries": 2}]
    with line.timed(PULL, "web"):
        pass
    assert line.parts() == [(PULL, "web", 0, 100.0, 101.0, 3)]


def test_a_later_start_replaces_the_one_before() -> None:
    line = timeline()
    for attempt in (0, 1):
        with line.timed(CREATE, "web", attempt):
            pass
        with line.timed(START, "web", attempt):
            pass
        line.note_ready({"web": True})
    assert [(what, attempt) for what, _, attempt, *_ in line.parts()] == [(CREATE, 1), (START, 1), (READY, 1)]


def test_it_survives_the_agent() -> None:
    memory = PodMemory("u1", "boot", 99.0, 300.0, admitted=True)
    memory.note_admitted()
    with memory.timeline.timed(START, "web", 2):
        pass
    again = recall(to_record(memory, {}), "boot", 300.0)
    assert again.timeline.parts() == memory.timeline.parts()
    assert [part[0] for part in again.timeline.parts()] == [SEEN, ADMITTED, START]
    again.timeline.note_ready({"web": True})
    assert again.timeline.parts()[-1][:3] == (READY, "web", 2)
