"""How long a pod waits after a failed pull: 10 s, doubled by each failure up to 300 s. A value with memory, no clock.

Before and next: puller.py. As in the kubelet the count is kept for each pod and image, so that a new pod asks at once,
and ends when twice the longest delay has passed without a failure.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Held:
    """A pull that must wait until `until_s`, because of `cause`."""

    cause: str
    until_s: float


@dataclass(frozen=True)
class _Entry:
    delay_s: float
    failed_at_s: float
    cause: str


class PullBackoff:
    """Failures by pod and image."""

    def __init__(self, initial_s: float = 10.0, max_s: float = 300.0) -> None:
        self.initial_s = initial_s
        self.max_s = max_s
        self._entries: dict[tuple[str, str], _Entry] = {}

    def held(self, pod_key: str, image: str, now_s: float) -> Held | None:
        """Whether a pull must wait still; not after a clock that has been set back."""
        entry = self._entries.get((pod_key, image))
        if entry is None or not now_s < entry.failed_at_s + entry.delay_s <= now_s + self.max_s:
            return None
        return Held(entry.cause, entry.failed_at_s + entry.delay_s)

    def fail(self, pod_key: str, image: str, cause: str, now_s: float) -> float:
        """Count a failure; when to try again."""
        self._entries = {
            key: entry for key, entry in self._entries.items() if now_s - entry.failed_at_s <= 2 * self.max_s
        }
        before = self._entries.get((pod_key, image))
        delay_s = min(self.max_s, before.delay_s * 2) if before is not None else self.initial_s
        self._entries[pod_key, image] = _Entry(delay_s, now_s, cause)
        return now_s + delay_s

    def forget(self, pod_key: str) -> None:
        """Drop all of a pod."""
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] != pod_key}
