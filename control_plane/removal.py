"""Takes away what `control_plane.record` says is ours, and nothing else. I/O.

Before: `longshore down` has ended the pods. Next: nothing is left. May be cut off anywhere: the record goes last, and
the next run completes it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from control_plane.errors import ControlPlaneError
from control_plane.record import Record
from daemonkit.files import remove_durably


def remove_file(record: Record, path: Path) -> None:
    """One file of ours, if it is there. Raises ControlPlaneError."""
    if path in record.made:
        with _errors(path):
            remove_durably(path)
            record.forget(path)


def remove_all(record: Record, trees: frozenset[Path]) -> tuple[Path, ...]:
    """Everything of ours; directories only when nothing else is in them, but for `trees` and those that are noted as
    such; no file that somebody else has put in the place of ours. What was removed. Raises ControlPlaneError.
    """
    removed = []
    trees |= record.trees
    # The deepest first, so that a directory is empty when its turn comes.
    for path in sorted(record.made, key=lambda one: len(one.parts), reverse=True):
        with _errors(path):
            if path in trees:
                _remove_tree(path)
            elif path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()
            elif not record.is_changed(path):
                remove_durably(path)
        if not path.exists():
            removed.append(path)
    with _errors(record.path):
        record.remove()
        for directory in record.path.parents:
            if directory in record.made:
                with contextlib.suppress(OSError):
                    directory.rmdir()
    return tuple(removed)


def _remove_tree(path: Path) -> None:
    """Never across a mount: what is mounted there is somebody else's."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = Path(line.split(" ")[4])
        if place == path or path in place.parents:
            raise ControlPlaneError(f"cannot remove {path}: a file system is mounted at {place}; unmount it first")
    if path.exists():
        shutil.rmtree(path)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ControlPlaneError(f"cannot remove {path}: {error.strerror or error}") from None
