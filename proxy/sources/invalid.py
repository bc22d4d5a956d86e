"""How validation of a decoded object says which field is wrong.  Pure; used by the manifest readers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from daemonkit.strict import suggest

Path = tuple[str | int, ...]


class Invalid(ValueError):  # noqa: N818 # a verdict on input, turned into ManifestError where the file is known
    """A field cannot be used; `path` as in `daemonkit.yaml_text.Document.lines`."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(path, message)
        self.path = path
        self.message = message


def refuse(path: Path, message: str) -> NoReturn:
    """Raise Invalid."""
    raise Invalid(path, message)


def one_of(path: Path, value: str, allowed: Sequence[str]) -> None:
    """Raise Invalid unless the value is one of those allowed."""
    if value not in allowed:
        refuse(path, f"must be one of {', '.join(allowed)}, not {value!r}{suggest(value, allowed)}")
