"""Reads and writes the files of a control plane: whole or not at all, noted as ours before they are made, untouched
when nothing changes. I/O.

Before: `control_plane.pki`, `control_plane.kubeconfigs` and `control_plane.manifest_files` know the contents. Next:
the static pods read them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from control_plane.errors import ControlPlaneError
from control_plane.record import Record
from daemonkit.files import write_atomic

PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True)
class Content:
    """What a file is to hold."""

    data: bytes
    mode: int = PRIVATE


class Files:
    """The one writer; `record` knows what is ours."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def read(self, path: Path) -> bytes | None:
        """None where there is no such file. Raises ControlPlaneError."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure("read", path, error) from None

    def check_free(self, path: Path, data: bytes | None = None) -> None:
        """Raises ControlPlaneError where somebody else has made the file, and not with just this content."""
        if self.read(path) not in (None, data) and path not in self.record.made:
            fix = "move it away, or end what it belongs to"
            raise ControlPlaneError(f"cannot write {path}: it is there, and longshore has not made it; {fix}")

    def write(self, wanted: Mapping[Path, Content]) -> tuple[Path, ...]:
        """Make the files so, in this order; those that were not. Raises ControlPlaneError."""
        changed = {path: content for path, content in wanted.items() if self._differs(path, content)}
        directories = dict.fromkeys(parent for path in changed for parent in _missing_parents(path))
        path = self.record.path
        try:
            if changed:
                self.record.note({path: content.data for path, content in changed.items()}, directories)
            for path in directories:
                path.mkdir(mode=0o755, exist_ok=True)
            for path, content in changed.items():
                write_atomic(path, content.data, content.mode)
        except OSError as error:
            raise failure("write", path, error) from None
        return tuple(changed)

    def make_data_directory(self, path: Path, data: Path) -> None:
        """A directory for its owner only, in which somebody else will make `data`. Raises ControlPlaneError."""
        directories = list(_missing_parents(path / "x"))
        try:
            if not data.exists():
                self.record.note({}, directories, [data])
            for directory in directories:
                directory.mkdir(mode=0o700 if directory == path else 0o755)
        except OSError as error:
            raise failure("make", path, error) from None

    def _differs(self, path: Path, content: Content) -> bool:
        if self.read(path) != content.data:
            return True
        return stat.S_IMODE(path.stat().st_mode) != content.mode


def _missing_parents(path: Path) -> Iterator[Path]:
    """From the top."""
    yield from reversed([parent for parent in path.parents if not parent.exists()])


def failure(verb: str, path: Path, error: OSError) -> ControlPlaneError:
    """What to say of it."""
    fix = "; run as root (sudo)" if isinstance(error, PermissionError) else ""
    return ControlPlaneError(f"cannot {verb} {path}: {error.strerror}{fix}")
