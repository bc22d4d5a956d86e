"""What we have made on this machine, and for which settings: one small JSON file, longshore.json in the kubernetes
directory. I/O.

Before: the commands. Next: `control_plane.files` notes each file here before it is made, so that `longshore down`
takes away what is ours, also after a crash, and nothing else; the next command finds the settings of the last one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from control_plane.errors import ControlPlaneError
from daemonkit.files import remove_durably, write_atomic

NAME = "longshore.json"
TREE = "tree"
_VERSIONS_KEPT = 2  # the content that was there, and the one that a crash may have kept from getting there


class Record:
    """`settings` as they were given, `made`: path -> digests of what we wrote there (none for a directory and
    for a file that somebody else writes for us, TREE for a directory that goes with all that is in it).
    """

    def __init__(self, directory: Path) -> None:
        """Read it. Raises ControlPlaneError for a file that is not ours to understand."""
        self.path = directory / NAME
        self.settings: dict[str, object] = {}
        self.made: dict[Path, list[str]] = {}
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ControlPlaneError(f"cannot read {self.path}: {error.strerror}; run as root") from None
        try:
            value = json.loads(text)
            self.settings = dict(value["settings"])
            self.made = {Path(path): [str(one) for one in digests] for path, digests in value["made"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            fix = "restore it from a backup, or move it away, and what is there counts as somebody else's"
            raise ControlPlaneError(f"cannot read {self.path}: it is not what longshore writes; {fix}") from None

    def remember(self, settings: Mapping[str, object]) -> None:
        """The settings of this run. Raises OSError."""
        self._save(dict(settings), self.made)

    def note(
        self, contents: Mapping[Path, bytes], directories: Iterable[Path] = (), trees: Iterable[Path] = ()
    ) -> None:
        """That these are ours, before they are made. Raises OSError."""
        made = dict(self.made)
        for directory in directories:
            made.setdefault(directory, [])
        for tree in trees:
            made[tree] = [TREE]
        for path, data in contents.items():
            digests = [one for one in made.get(path, []) if one != digest(data)]
            made[path] = [*digests, digest(data)][-_VERSIONS_KEPT:]
        self._save(self.settings, made)

    def forget(self, path: Path) -> None:
        """It is gone. Raises OSError."""
        self._save(self.settings, {each: digests for each, digests in self.made.items() if each != path})

    def remove(self) -> None:
        """The record itself. Raises OSError."""
        remove_durably(self.path)

    def wrote(self, path: Path, data: bytes) -> bool:
        """Whether `data` at `path` is as we left it."""
        return digest(data) in self.made.get(path, [])

    def is_changed(self, path: Path) -> bool:
        """Whether the file there is none that we wrote: somebody has put another in its place. Raises OSError."""
        return bool(self.made.get(path)) and path.is_file() and not self.wrote(path, path.read_bytes())

    @property
    def trees(self) -> frozenset[Path]:
        """Directories that go with all that is in them."""
        return frozenset(path for path, digests in self.made.items() if digests == [TREE])

    def _save(self, settings: dict[str, object], made: dict[Path, list[str]]) -> None:
        """What cannot be written does not count here either."""
        if (settings, made) == (self.settings, self.made):
            return
        for parent in self.path.parents:
            if not parent.exists():
                made = {parent: [], **made}
        value = {"settings": settings, "made": {str(path): digests for path, digests in made.items()}}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, json.dumps(value, indent=1).encode() + b"\n", 0o600)
        self.settings, self.made = settings, made


def digest(data: bytes) -> str:
    """Of a file's content."""
    return hashlib.sha256(data).hexdigest()
