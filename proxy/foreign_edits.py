"""Says in the log that somebody else changed what is ours in the kernel, and not too often.

Before: the engine of a backend has looked and found it changed.  Next: the journal; the engine writes it again.
"""

from __future__ import annotations

import logging
import time

_SAY_AGAIN_S = 60.0
_log = logging.getLogger(__name__)


class ForeignEdits:
    """`what` was changed, in the plural.  Told once a minute at most: who flushes in a loop must not fill the log."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._say_at_s = 0.0
        self._unsaid = 0

    def tell(self) -> None:
        """One more was found."""
        self._unsaid += 1
        now_s = time.monotonic()
        if now_s >= self._say_at_s:
            times = "" if self._unsaid == 1 else f" ({self._unsaid} times)"
            _log.warning("%s were changed by somebody else%s; writing them again", self._what, times)
            self._say_at_s, self._unsaid = now_s + _SAY_AGAIN_S, 0
