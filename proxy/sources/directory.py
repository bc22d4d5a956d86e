"""The directory of Service and EndpointSlice files as a stream of whole pictures.

Before: `daemonkit.watch_dir` reads the files, `proxy.sources.manifest` understands each.  Next: `proxy.sync`.
`merge_files` is pure: which file's object counts, and which files are in error.  Only `watch_manifests` does I/O.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from daemonkit.watch_dir import DirectorySnapshot, FileProblem, accept_manifest, watch_directory
from kube_objects.manifest import ManifestError
from proxy.clashes import find_clashes
from proxy.endpoints import SliceFacts
from proxy.services import ServiceFacts
from proxy.sources.manifest import parse_manifest

Facts = ServiceFacts | SliceFacts
_log = logging.getLogger(__name__)
_RESCAN_S = 60.0
_FILES_PER_TURN = 10


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file: what it holds now, and the last good version of its object."""

    path: str
    content: bytes | FileProblem
    facts: Facts | None
    """The last good version; None when there never was one."""
    error: ManifestError | None
    """Why the present content cannot be used."""
    good: bytes = b""
    """The text of `facts`."""


@dataclass(frozen=True)
class DirectoryState:
    """All files, in the order in which they win when two want the same."""

    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    """By file name; files that were there before come first, then by name."""
    clashes: Mapping[str, ManifestError] = field(default_factory=dict)
    """Files whose object another file defines already."""
    problem: str = ""
    """Why the directory itself cannot be read; the files are then the last known ones."""
    listed: bool = True
    """It has been read at least once by this process: only then is what is not in it known to be unwanted."""

    @cached_property
    def services(self) -> tuple[ServiceFacts, ...]:
        """The Services that count, in winning order."""
        return tuple(facts for facts in self._effective() if isinstance(facts, ServiceFacts))

    @cached_property
    def slices(self) -> tuple[SliceFacts, ...]:
        """The EndpointSlices that count."""
        return tuple(facts for facts in self._effective() if isinstance(facts, SliceFacts))

    @property
    def last_good(self) -> dict[str, bytes]:
        """Path and text of each file whose last good version is in force, although it is broken now."""
        broken = ((name, file) for name, file in self.files.items() if file.error is not None and file.good)
        return {file.path: file.good for name, file in broken if name not in self.clashes}

    @property
    def errors(self) -> tuple[tuple[ManifestError, bool], ...]:
        """Each file's error, and whether a last good version of it is still in force."""
        broken = {name: file for name, file in self.files.items() if file.error is not None}
        wrong = [(file.error, file.facts is not None and name not in self.clashes) for name, file in broken.items()]
        return (*wrong, *((error, False) for name, error in self.clashes.items() if name not in broken))  # type: ignore[arg-type] # none is None

    def _effective(self) -> Iterable[Facts]:
        return (file.facts for name, file in self.files.items() if file.facts is not None and name not in self.clashes)


def winners_among(services: tuple[ServiceFacts, ...]) -> frozenset[tuple[str, str]]:
    """(namespace, name) of services that have an address which another one wants too.  Pure."""
    return find_clashes(services).winners


def worth_remembering(state: DirectoryState, winners: frozenset[tuple[str, str]]) -> dict[str, bytes]:
    """Path and text of each file that the next proxy must know of before it reads the directory.  Pure.

    The last good versions, and who won an address or an object against another file: after a restart, when no file was
    there before another, they must win again, or a service that works would give way to one that never did.
    """
    texts = state.last_good
    contested = {identity for name in state.clashes if (identity := _identity(state.files[name].facts)) is not None}
    for name, file in state.files.items():
        facts = file.facts
        if facts is None or name in state.clashes or file.path in texts:
            continue
        wins = isinstance(facts, ServiceFacts) and facts.key in winners
        if file.good and (wins or _identity(facts) in contested):
            texts[file.path] = file.good
    return texts


def _identity(facts: Facts | None) -> tuple[str, str, str] | None:
    if facts is None:
        return None
    return "Service" if isinstance(facts, ServiceFacts) else "EndpointSlice", facts.namespace, facts.name


def parse_file(path: str, content: bytes | FileProblem, before: ManifestFile | None) -> ManifestFile:
    """Understand one file; a bad one keeps the facts it had.  Pure."""
    if before is not None and before.content == content:
        return before
    last_good, text = (before.facts, before.good) if before is not None else (None, b"")
    if isinstance(content, FileProblem):
        return ManifestFile(path, content, last_good, ManifestError(path, content.message), text)
    try:
        facts = parse_manifest(content, path)
    except ManifestError as error:
        return ManifestFile(path, content, last_good, error, text)
    except Exception as mistake:  # of ours: one file must not take the services of all others with it
        _log.exception("cannot understand %s", path)
        return ManifestFile(path, content, last_good, ManifestError(path, f"cannot be understood: {mistake!r}"), text)
    # An edit that changes nothing must not look like another object.
    return ManifestFile(path, content, last_good if last_good == facts else facts, None, content)


def merge_files(previous: DirectoryState, parsed: Mapping[str, ManifestFile]) -> DirectoryState:
    """The next state of the directory.  Pure.

    Of two good files with the same object the one that had it first keeps it; a bad one yields to a good one.
    """
    if _same_objects(previous.files, parsed):
        return DirectoryState({name: parsed[name] for name in previous.files}, previous.clashes)
    known = {name: None for name in previous.files if name in parsed and name not in previous.clashes}
    order = (*known, *sorted(name for name in parsed if name not in known))
    owners: dict[tuple[str, str, str], str] = {}
    clashes: dict[str, ManifestError] = {}
    # What a file says now counts more than what another one said before it broke.
    for name in sorted(order, key=lambda name: parsed[name].error is not None):
        file = parsed[name]
        identity = _identity(file.facts)
        if identity is None:
            continue
        owner = owners.setdefault(identity, name)
        if owner != name:
            kind, namespace, called = identity
            message = f"{kind} {namespace}/{called} is defined in {parsed[owner].path} already"
            clashes[name] = ManifestError(file.path, message, "metadata.name")
    return DirectoryState({name: parsed[name] for name in order}, clashes)


def _same_objects(before: Mapping[str, ManifestFile], now: Mapping[str, ManifestFile]) -> bool:
    """The same files with the same objects, whatever these say: nobody can win or lose a clash."""
    return before.keys() == now.keys() and all(
        file is (old := before[name])
        or (_identity(file.facts) == _identity(old.facts) and (file.error is None) == (old.error is None))
        for name, file in now.items()
    )


def unreadable(previous: DirectoryState, snapshot: DirectorySnapshot) -> DirectoryState:
    """The state while the directory is missing or cannot be listed: what was known stays.  Pure.

    A directory that was moved away must not take every service of the node with it; whoever wants the services gone
    removes the files.
    """
    cause = "directory does not exist" if snapshot.missing else (snapshot.error or "cannot be listed")
    return replace(previous, problem=f"cannot read {snapshot.path}: {cause}; the last known services stay")


def remembered(directory: Path, texts: Mapping[str, bytes]) -> DirectoryState:
    """The state that an earlier run left: the last good versions of files that were broken.  Pure."""
    paths = [Path(path) for path in texts]
    return DirectoryState(
        {one.name: parse_file(str(one), texts[str(one)], None) for one in paths if one.parent == directory},
        listed=False,
    )


async def watch_manifests(directory: Path, state: DirectoryState | None = None) -> AsyncIterator[DirectoryState]:
    """Yield the directory's state at once and after each change, for ever.  `state` is what an earlier run left."""
    state = state or DirectoryState(listed=False)
    async for snapshot in watch_directory(directory, accept=accept_manifest, rescan_s=_RESCAN_S):
        if snapshot.missing or snapshot.error is not None:
            state = unreadable(state, snapshot)
            yield state
            continue
        parsed: dict[str, ManifestFile] = {}
        for number, (name, content) in enumerate(snapshot.files.items()):
            before = state.files.get(name)
            if before is not None and before.content == content:
                parsed[name] = before
                continue
            parsed[name] = parse_file(str(directory / name), content, before)
            if parsed[name] is not before and number % _FILES_PER_TURN == 0:
                await asyncio.sleep(0)  # a thousand new files must not hold up health checks
        state = merge_files(state, parsed)
        yield state
