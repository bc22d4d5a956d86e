"""What an API server has told, kept on disk, so that a machine that starts without it knows the last of it.  I/O.

Before: `kube_client.follow` hands in each change, and asks for the last whole list when the server is away and has told
nothing yet.  Next: sealed files, one for each group of streams, that never hold half a write.  A file that cannot be
opened is set aside and named; the others count.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from daemonkit.files import quarantine, remove_half_written
from daemonkit.seal import SealError, read_key, read_sealed, write_sealed
from kube_client.list_watch import Change, Removed, Replaced
from kube_client.messages import Item, Key
from kube_objects.encode import rfc3339

CREDENTIAL = "longshore-offline-key"
KEY_FILE = "key"
PAUSE_S = 1.0
RETRY_S = 10.0
_SUFFIX = ".sealed"
_log = logging.getLogger(__name__)


class _Group(msgspec.Struct):
    saved_s: float
    streams: dict[str, list[Item]]


class StreamRecord:
    """One stream's part; `name` is GROUP or GROUP/NAME."""

    def __init__(self, record: Record, name: str) -> None:
        self._record = record
        self._name = name

    def take(self, change: Change) -> None:
        """The server has told this."""
        streams = self._record.streams
        if isinstance(change, Replaced):
            streams[self._name] = {item.key: item for item in change.items}
        elif isinstance(change, Removed):
            streams.get(self._name, {}).pop(change.item.key, None)
        else:
            streams.setdefault(self._name, {})[change.item.key] = change.item
        self._record.note_changed(self._name)

    def last(self) -> tuple[Item, ...] | None:
        """All there was, None where that was never told."""
        found = self._record.streams.get(self._name)
        return None if found is None else tuple(found.values())

    @property
    def told(self) -> str:
        """When the record was written, for people."""
        return self._record.told(self._name)


class Record:
    """The files in `directory`, sealed by the key in the file `key`; `streams` is what they say, by stream."""

    def __init__(self, directory: Path, key: Path) -> None:
        self._directory = directory
        self._key_file = key
        self._key = b""
        self.streams: dict[str, dict[Key, Item]] = {}
        self._saved_s: dict[str, float] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()
        self._problem = ""

    def open(self) -> None:
        """Read what there is. Raises OSError, and SealError for a key that is none."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_half_written(self._directory)
        self._key = read_key(self._key_file)
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            self._read(path)

    def stream(self, name: str) -> StreamRecord:
        """The part of one stream."""
        return StreamRecord(self, name)

    def keep_only(self, group: str, names: Iterable[str]) -> None:
        """Forget the streams of a group besides these."""
        wanted = set(names)
        gone = [name for name in self.streams if _group(name) == group and name not in wanted]
        for name in gone:
            del self.streams[name]
        if gone:
            self.note_changed(gone[0])

    def note_changed(self, name: str) -> None:
        """The group of this stream is to be written."""
        self._dirty.add(_group(name))
        self._wake.set()

    def told(self, name: str) -> str:
        """When the group of this stream was written."""
        return rfc3339(datetime.datetime.fromtimestamp(int(self._saved_s.get(_group(name), 0.0)), datetime.UTC))

    async def run(self) -> None:
        """Write what has changed, for ever; what changes meanwhile is one write."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(PAUSE_S)
            self._wake.clear()
            if not await self.flush():
                self._wake.set()
                await asyncio.sleep(RETRY_S)

    async def flush(self) -> bool:
        """Write what has changed now; False where something could not be written."""
        for group in sorted(self._dirty):
            self._dirty.discard(group)
            streams = {name: list(items.values()) for name, items in self.streams.items() if _group(name) == group}
            data = msgspec.msgpack.encode(_Group(time.time(), streams))
            try:
                await asyncio.to_thread(write_sealed, self._path(group), self._key, data)
            except OSError as error:
                self._dirty.add(group)
                self._complain(f"cannot write {self._path(group)}: {error.strerror or error}")
                return False
        self._problem = ""
        return True

    def _path(self, group: str) -> Path:
        return self._directory / f"{group}{_SUFFIX}"

    def _read(self, path: Path) -> None:
        try:
            data = read_sealed(path, self._key)
            found = msgspec.msgpack.decode(data or b"", type=_Group)
        except OSError as error:
            _log.error("cannot read %s: %s; what it told is not known", path, error.strerror or error)
            return
        except ValueError as error:  # SealError and what msgspec raises are some
            _log.error("cannot read %s: %s; kept as %s, what it told is not known", path, error, quarantine(path))
            return
        self._saved_s[path.name.removesuffix(_SUFFIX)] = found.saved_s
        self.streams |= {name: {item.key: item for item in items} for name, items in found.streams.items()}

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            _log.warning("%s; trying again", problem)
        self._problem = problem


def open_record(directory: Path | None) -> Record | None:
    """None where none is wanted, and where it cannot be used: then the API server is waited for as without it.

    The key is the systemd credential `longshore-offline-key`, else the file `key` beside what it seals.
    """
    if directory is None:
        return None
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(given) / CREDENTIAL if given else None
    record = Record(directory, credential if credential is not None and credential.exists() else directory / KEY_FILE)
    try:
        record.open()
    except (OSError, SealError) as error:
        _log.error("cannot use %s: %s; what an API server that is away told last is not known", directory, error)
        return None
    return record


def stream_of(record: Record | None, name: str) -> StreamRecord | None:
    """The part of one stream, where there is a record at all."""
    return record.stream(name) if record is not None else None


def _group(name: str) -> str:
    return name.partition("/")[0]
