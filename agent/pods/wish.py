"""What is wanted of one pod, and how a newer wish meets an older one. Pure.

Before: `workers` turns manifests into wishes. Next: the worker of the pod reads its mailbox of size one, where
`merge_wishes` keeps the newest wish; a termination is never taken back and a grace period only shrinks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightkube.models.core_v1 import Pod

from agent.pods.facts import Held


@dataclass(frozen=True, slots=True)
class Ending:
    """The pod is to go. `grace_s` overrides the pod's own grace period when it is not None."""

    reason: str
    grace_s: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """The newest word on one pod UID. `pod` is None for what runs here without any source wanting it.

    `refused` is why the pod can never run here, as its source knows already.
    """

    uid: str
    pod: Pod | None
    source: str = ""
    ending: Ending | None = None
    refused: Held | None = None


def merge_wishes(older: Wish, newer: Wish) -> Wish:
    """One wish in place of two for the same UID."""
    merged = replace(newer, pod=newer.pod or older.pod, source=newer.source or older.source)
    if older.ending is None:
        return merged
    if newer.ending is None:
        return replace(merged, ending=older.ending)
    return replace(merged, ending=Ending(older.ending.reason, _smaller(older.ending.grace_s, newer.ending.grace_s)))


def _smaller(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
