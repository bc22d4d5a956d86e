"""Which places do not answer, and until when nobody asks them again.

Before: whoever asked a place in vain.  Next: the same one, before it asks again.  What asked may have to stay in the
kernel until the server is back, and nothing can end it: as long as it is there no second one is sent after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.volumes.helper import HelperTimeoutError

SILENT_S = 600.0
"""A file system that does not answer is asked again after so long, if what asked it is gone by then."""


class Silence:
    """Of some places, by path."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic, pause_s: float = SILENT_S) -> None:
        self._now_s = now_s
        self._pause_s = pause_s
        self._places: dict[str, tuple[float, Callable[[], bool]]] = {}

    def begin(self, place: str, error: HelperTimeoutError) -> None:
        """It did not answer."""
        self._places[place] = self._now_s() + self._pause_s, error.is_over

    def holds(self, place: str) -> bool:
        """Whether it is to be left alone."""
        now_s = self._now_s()
        self._places = {one: found for one, found in self._places.items() if found[0] > now_s or not found[1]()}
        return place in self._places
