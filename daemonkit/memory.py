"""Keeps a daemon's resident memory small: `limit_arenas` before the start, `trim_now_and_then` when it is over.

`collect_seldom`, `collector_paused` and `keep_for_good` keep the collector of garbage away from what is many and used.

Source: mallopt(3), malloc_trim(3). Without glibc nothing happens.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_M_TRIM_THRESHOLD = -1
_M_ARENA_MAX = -8
_LOOK_S = 15.0
_AT_LEAST_S = 600.0
_GROWN = 2 * 1024 * 1024


def trim_memory() -> None:
    """Collect garbage and give freed memory back to the kernel."""
    gc.collect()
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 128 * 1024)
        libc.malloc_trim(0)
    except (OSError, AttributeError):
        return


def collect_seldom() -> None:
    """Where many values are made and nearly all are kept, garbage is looked for twenty times as seldom."""
    gc.set_threshold(14_000, 20, 20)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Thousands of values are made at once and all are kept: looking for garbage among them costs 5 to 10 ms."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def keep_for_good() -> None:
    """What lives now is never looked at again: a full collection among a million values would take half a second."""
    gc.freeze()


def limit_arenas() -> None:
    """Let all threads share two heaps; to be called before any thread is started."""
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    except (OSError, AttributeError):
        return


async def trim_now_and_then(resident: Callable[[], int] | None = None, trim: Callable[[], None] = trim_memory) -> None:
    """For ever: trim once a burst is over, the start's the first, and every ten minutes; each takes about 20 ms.

    `resident` gives the bytes of this process in memory, by default the kernel's figure.
    """
    resident = resident or resident_bytes
    kept, idle_s = 0, 0.0
    while True:
        await asyncio.sleep(_LOOK_S)
        idle_s += _LOOK_S
        if resident() - kept >= _GROWN or idle_s >= _AT_LEAST_S:
            trim()
            kept, idle_s = resident(), 0.0


def resident_bytes() -> int:
    """Of this process; 0 where the kernel does not tell.  Source: proc_pid_statm(5)."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, LookupError, ValueError):
        return 0
