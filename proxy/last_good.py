"""The good text of manifests that are broken or contested now: a restart must not take their services away.

Before: `proxy.sources.directory` says which files are in error and what they last held, and which won a clash.  Next:
the next proxy starts from it.  I/O: one small file beside the API socket; as rules do, it lasts until the machine is
started anew.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from daemonkit.files import write_atomic

_log = logging.getLogger(__name__)


class LastGood:
    """The file at `path`: {manifest path: bytes}."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: dict[str, bytes] = {}

    def load(self) -> dict[str, bytes]:
        """What an earlier proxy left; nothing where that cannot be read."""
        try:
            self._written = msgspec.json.decode(self._path.read_bytes(), type=dict[str, bytes])
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            _log.warning(
                "cannot read %s: %s; going on without the last good versions of broken files", self._path, error
            )
        return dict(self._written)

    def save(self, texts: Mapping[str, bytes]) -> None:
        """Write down what differs from before; a disk that is full is only told of."""
        wanted = dict(texts)
        if wanted == self._written:
            return
        try:
            write_atomic(self._path, msgspec.json.encode(wanted))
        except OSError as error:
            _log.warning("cannot write %s: %s; a restart will not know the last good versions", self._path, error)
            return
        self._written = wanted
