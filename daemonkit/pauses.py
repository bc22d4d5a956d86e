"""How long to wait before what has failed is tried again: twice as long each time, up to a bound.  Pure.

Used by whoever asks a runtime, an API server or the kernel for the same thing until it is done.
"""

from __future__ import annotations

_DOUBLINGS = 10


def growing_pause_s(failures: int, first_s: float, most_s: float) -> float:
    """Seconds after so many failures in a row, the first of which counts as 1."""
    return min(most_s, first_s * 2.0 ** min(failures - 1, _DOUBLINGS))
