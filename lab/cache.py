"""What is slow to make and never changes: made once, kept over runs, whole or absent. I/O.

Before: nothing. Next: `lab.build` keeps compiled programs here, `lab.vm_image` disk images. One lock serves all makers:
two runs at a time would only take each other's processors.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRATCH = "building-"


def cache_directory() -> Path:
    """$LONGSHORE_CACHE, else longshore below $XDG_CACHE_HOME or ~/.cache."""
    if explicit := os.environ.get("LONGSHORE_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longshore"


def cached(name: str, make: Callable[[Path, Path], None]) -> Path:
    """The cache's entry `name` (a file or a directory); `make(entry, scratch)` makes it when there is none.

    It is made beside its place and renamed; what `make` leaves in the directory `scratch` is removed.
    """
    cache = cache_directory()
    place = cache / name
    if place.exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "build.lock"):
        if not place.exists():
            for killed in cache.glob(f"{_SCRATCH}*"):
                shutil.rmtree(killed)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=cache) as scratch:
                made = Path(scratch) / "made"
                work = Path(scratch) / "work"
                work.mkdir()
                make(made, work)
                made.rename(place)
    return place


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
