"""What is slow to make and seldom changes: made once, kept over runs, whole or absent. I/O.

Before: nothing. Next: `lab.build` keeps compiled programs here, `lab.package` packages, `lab.vm_image` disks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_directory() -> Path:
    """$LONGSHORE_CACHE, else longshore below $XDG_CACHE_HOME or ~/.cache."""
    if explicit := os.environ.get("LONGSHORE_CACHE"):
        return Path(explicit)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longshore"


def cached(family: str, key: str, make: Callable[[Path, Path], None], *, keep: int = 1) -> Path:
    """The cache's entry for `key` (a file or a directory); `make(entry, scratch)` makes it when there is none.

    It is made beside its place and renamed; what `make` leaves in the directory `scratch` is removed. Of a family the
    `keep` entries that were used last stay. Others who want one of the family meanwhile wait.
    """
    cache = cache_directory()
    place = cache / f"{family}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{family}.lock"):
        if not place.exists():
            for killed in cache.glob(f"building-{family}-*"):
                shutil.rmtree(killed)
            with tempfile.TemporaryDirectory(prefix=f"building-{family}-", dir=cache) as scratch:
                made, work = Path(scratch) / "made", Path(scratch) / "work"
                work.mkdir()
                make(made, work)
                made.rename(place)
        os.utime(place)
        _forget_old(cache, family, keep)
    return place


def _forget_old(cache: Path, family: str, keep: int) -> None:
    entries = [path for path in cache.glob(f"{family}-*") if path.suffix != ".lock"]
    for old in sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)[keep:]:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
