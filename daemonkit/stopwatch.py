"""Measures how long a block takes.  Reads the clock, nothing else.

Before: whoever counts its own work.  Next: `tally` or whatever else takes the seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def timed(tell: Callable[[float], None]) -> Iterator[None]:
    """Tell the seconds that the block took, also when it failed."""
    begun_s = time.monotonic()
    try:
        yield
    finally:
        tell(time.monotonic() - begun_s)
