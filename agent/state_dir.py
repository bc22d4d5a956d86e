"""What the agent keeps on disk: a lock, a layout version, and one record per pod of what the runtime cannot tell.

Before: `daemon` opens it. Next: the pods' workers read their record once and have it written when it changes. I/O on
our own local disk. The runtime's labels are the truth; this is a cache plus what cannot be observed, so a file that
cannot be read is set aside and rebuilt, and a disk that is full costs memory over a restart, never a pod. The layout is
written down in docs/state-dir.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import msgspec

from daemonkit.files import LockFile, quarantine, remove_durably, remove_half_written, write_atomic

LAYOUT_VERSION = 1
RESTORE_MARKER = "restore.json"
CHECKPOINTS = "checkpoints"
"""Where the API on the node puts checkpoints of containers, below the root."""
T = TypeVar("T")
_log = logging.getLogger(__name__)
_Time: TypeAlias = Annotated[float, msgspec.Meta(ge=0, lt=1e11)]  # Unix seconds that a calendar can show


class PodRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is written down of one pod. Times in Unix seconds.

    `outcome` (Succeeded or Failed) with the final `status` keeps a finished pod finished; `stop_deadline_s` keeps a
    grace period from starting anew. `allocation` is what of CPU and memory the pod was given last, `resized` what a
    container or sandbox, by id, was given since it was made. `interrupted` are the ids of containers that a shutdown of
    the node has ended. `attempts` and `ends` are, by container name, the highest attempt and the last end of containers
    that the runtime has been told to forget. `backoff` is container name -> (delay, last update) and counts only in the
    boot `boot_id`. `timeline` are the parts of agent.pods.timeline. `probes` is the prober's dump, `transitions`
    condition type -> (status, time). `ephemeral_containers` were put into the pod while it ran. `source` is "api" for
    a pod of an API server, else ""; `admitted`: this node has let it in once;
    `preempted`: it makes room for a critical pod.
    """

    uid: str
    namespace: str = ""
    name: str = ""
    start_time_s: float = 0.0
    boot_id: str = ""
    outcome: str | None = None
    status: dict[str, object] | None = None
    stop_deadline_s: float | None = None
    interrupted: list[str] = []
    attempts: dict[str, int] = {}
    ends: dict[str, dict[str, object]] = {}
    allocation: dict[str, dict[str, dict[str, str]]] = {}
    resized: dict[str, str] = {}
    ephemeral_containers: list[dict[str, object]] = []
    backoff: dict[str, tuple[float, float]] = {}
    probes: dict[str, object] = {}
    transitions: dict[str, tuple[str, float]] = {}
    timeline: list[tuple[str, str, int, float, float, int]] = []
    source: str = ""
    admitted: bool = False
    preempted: bool = False


class ShutdownRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """That the node goes down, so that a restarted agent goes on with it. It counts only in the boot `boot_id`.

    `trigger` is who said so (a value of `agent.shutdown.node_shutdown.Trigger`); `opened` is priority of a group ->
    when its turn came, Unix seconds.
    """

    boot_id: str
    trigger: str
    since_s: _Time
    opened: dict[int, _Time] = {}


class _Layout(msgspec.Struct):
    version: int


class StateDirError(RuntimeError):
    """The directory cannot be used at all; the text says why and what to do."""


class StateDir:
    """The directory `root` (`--root-dir`). `open` locks it until `close`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = LockFile(root / "agent.lock")

    @property
    def pods_dir(self) -> Path:
        """Where the pods' directories are."""
        return self.root / "pods"

    @property
    def records_dir(self) -> Path:
        """Where the pods' records are."""
        return self.root / "records"

    def open(self) -> None:
        """Make the directories, take the lock, drop what a killed agent had half written, check the layout.

        Raises LockHeldError (with the holder's pid) when another agent runs on it, StateDirError when the
        directory cannot be made, was written by a newer agent, or is half restored from a backup.
        """
        try:
            self.root.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock.acquire()
            self._check_restored()
            self.pods_dir.mkdir(mode=0o750, exist_ok=True)
            self.records_dir.mkdir(mode=0o700, exist_ok=True)
            for directory in (self.root, self.records_dir, self.root / CHECKPOINTS):
                remove_half_written(directory)
        except OSError as error:
            raise StateDirError(f"cannot use {self.root} (--root-dir): {error.strerror or error}") from error
        self._check_layout()

    def close(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def load_records(self) -> dict[str, PodRecord]:
        """All records by pod UID; files that cannot be read are set aside and reported once."""
        records: dict[str, PodRecord] = {}
        for path in sorted(path for path in self.records_dir.glob("*.json") if not path.is_dir()):
            record = self._load(path)
            if record is not None:
                records[record.uid] = record
        return records

    def write_record(self, record: PodRecord) -> None:
        """Replace a record, durably. Raises OSError."""
        self.records_dir.mkdir(mode=0o700, exist_ok=True)
        write_atomic(self._record_path(record.uid), msgspec.json.format(msgspec.json.encode(record)) + b"\n")

    def remove_record(self, uid: str) -> None:
        """Forget a pod. Raises OSError."""
        remove_durably(self._record_path(uid))

    def has_record(self, uid: str) -> bool:
        """Whether something is written down of a pod."""
        return self._record_path(uid).exists()

    def pod_uids(self) -> frozenset[str]:
        """The UIDs that have a directory or a record here."""
        found: set[str] = set()
        with contextlib.suppress(OSError):
            found.update(entry.name for entry in self.pods_dir.iterdir() if entry.is_dir())
        with contextlib.suppress(OSError):
            found.update(entry.stem for entry in self.records_dir.glob("*.json") if entry.is_file())
        return frozenset(found)

    def load_manifests(self) -> dict[str, bytes]:
        """The last good text of each manifest, by path."""
        return self._read(self.root / "manifests.json", dict[str, bytes]) or {}

    def write_manifests(self, raw: Mapping[str, bytes]) -> None:
        """Replace the last good texts. Raises OSError."""
        write_atomic(self.root / "manifests.json", msgspec.json.encode(dict(raw)))

    def load_shutdown(self) -> ShutdownRecord | None:
        """What an earlier agent wrote down of a shutdown of the node."""
        return self._read(self.root / "shutdown.json", ShutdownRecord)

    def write_shutdown(self, record: ShutdownRecord | None) -> None:
        """Replace it, durably; None removes it. Raises OSError."""
        path = self.root / "shutdown.json"
        if record is None:
            remove_durably(path)
        else:
            write_atomic(path, msgspec.json.encode(record) + b"\n")

    def write_arguments(self, arguments: Sequence[str]) -> None:
        """Keep the agent's command line: `longshore shutdown` starts an agent like the one that is gone."""
        path, text = self.root / "arguments.json", msgspec.json.encode(list(arguments)) + b"\n"
        with _logged(f"cannot write {path}"):
            if not path.exists() or path.read_bytes() != text:
                write_atomic(path, text)

    def _record_path(self, uid: str) -> Path:
        return self.records_dir / f"{uid}.json"

    def _load(self, path: Path) -> PodRecord | None:
        try:
            record = msgspec.json.decode(path.read_bytes(), type=PodRecord)
            if path.stem != record.uid:
                raise ValueError(f"it is about the pod {record.uid!r}")
        except OSError as error:
            _log.warning("cannot read %s: %s; going on without it", path, error.strerror)
            return None
        except ValueError as error:  # what msgspec raises is one, and so is a UnicodeDecodeError
            self._set_aside(path, error)
            return None
        return record

    def _check_restored(self) -> None:
        marker = self.root / RESTORE_MARKER
        if os.path.lexists(marker):
            self._lock.release()
            raise StateDirError(
                f"cannot use {self.root} (--root-dir): `longshore restore` was cut off in the middle; run it again, "
                f"which completes it, or remove {marker} to go on with what is there"
            )

    def _check_layout(self) -> None:
        path = self.root / "layout.json"
        layout = self._read(path, _Layout)
        if layout is not None and layout.version > LAYOUT_VERSION:
            self._lock.release()
            raise StateDirError(
                f"cannot use {self.root} (--root-dir): its layout is version {layout.version}, this agent knows "
                f"{LAYOUT_VERSION}; run the newer agent, or move the directory away (running pods are adopted)"
            )
        if layout is None:
            with _logged(f"cannot write {path}"):
                write_atomic(path, msgspec.json.encode({"version": LAYOUT_VERSION}) + b"\n")

    def _read(self, path: Path, kind: type[T]) -> T | None:
        """A JSON file of ours; None where there is none, and where one that is no good was set aside."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # what msgspec raises is one, and so is a UnicodeDecodeError
            self._set_aside(path, error)
            return None

    @staticmethod
    def _set_aside(path: Path, cause: Exception) -> None:
        with _logged(f"cannot set {path} aside"):
            _log.warning("cannot read %s: %s; kept as %s and rebuilt from the runtime", path, cause, quarantine(path))


class _logged(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a verb where it is used
    """Log an OSError instead of raising it: the agent goes on without what could not be written."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, OSError):
            _log.warning("%s: %s", self._what, error.strerror or error)
            return True
        return False


def backoff_notes(record: PodRecord, boot_id: str) -> Mapping[str, tuple[float, float]]:
    """The record's back-off, empty after a reboot: that ended every container through no fault of its own."""
    return record.backoff if record.boot_id == boot_id else {}
