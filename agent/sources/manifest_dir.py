"""The directory of manifests as a stream of whole pictures: which static pods there are, which ConfigMaps and Secrets
they may refer to, and which files are bad.

Before: daemonkit.watch_dir reads the files.  Next: agent/pods runs the pods of the newest picture and shows the
errors.  The merge is pure; `watch_manifests` is the thin shell around it.

The rule: a file that is good decides.  A file that is bad keeps its last good version running, also over a restart of
the agent (`raw` is stored by agent/state_dir and comes back through `remember`).  A file that is gone takes its pod
with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from lightkube.models import core_v1

from agent.sources.config_manifest import check_immutable
from agent.sources.manifest import full_name, name_line, parse_manifest, seen
from daemonkit.watch_dir import DirectorySnapshot, FileProblem, accept_manifest, watch_directory
from kube_objects.config_data import ConfigData
from kube_objects.encode import rfc3339
from kube_objects.manifest import ManifestError


@dataclass(frozen=True)
class SourcedPod:
    """A static pod and the file it comes from."""

    pod: core_v1.Pod
    path: str


@dataclass(frozen=True)
class ManifestState:
    """One whole picture; all maps are keyed by the absolute path of a file.

    `pods`: what must run, which for a bad file is its last good version.  `objects`: the ConfigMaps and Secrets, by
    the same rule.  `errors`: the bad files (and the directory itself, when it cannot be read); an error that stays the
    same stays the same object.  `raw`: the bytes that each pod and object was read from.
    """

    pods: Mapping[str, SourcedPod] = field(default_factory=dict)
    errors: Mapping[str, ManifestError] = field(default_factory=dict)
    raw: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    objects: Mapping[str, ConfigData] = field(default_factory=dict)


Content: TypeAlias = SourcedPod | ConfigData


class ManifestSettings(Protocol):
    """The part of AgentConfig that counts here."""

    @property
    def static_pod_path(self) -> Path | None:
        """The directory, None for none."""
        ...

    @property
    def file_check_frequency_s(self) -> float:
        """Seconds between two rescans."""
        ...

    @property
    def node_name(self) -> str:
        """Suffix of the pods' names."""
        ...


def remember(raw: Mapping[str, bytes], node_name: str, seen_at: str = "") -> ManifestState:
    """The picture of an earlier run, from the bytes it stored.

    What no longer parses becomes an error and runs no pod.
    """
    found: dict[str, tuple[Content, bytes]] = {}
    errors: dict[str, ManifestError] = {}
    for path, data in raw.items():
        try:
            found[path] = _read(data, path, node_name, seen_at), data
        except ManifestError as error:
            errors[path] = error
    return _picture(found, errors)


def merge_snapshot(
    previous: ManifestState, snapshot: DirectorySnapshot, node_name: str, seen_at: str = ""
) -> ManifestState:
    """The next picture, from the last one and what the directory holds now.

    `seen_at` (RFC 3339) is written to new pods as kubernetes.io/config.seen.  Of two files with one pod name the one
    whose pod runs already wins, else the first by name; the other is an error.
    """
    directory = str(snapshot.path)
    if snapshot.error is not None:
        error = _same(previous, ManifestError(directory, snapshot.error))
        return dataclasses.replace(previous, errors={**previous.errors, directory: error})
    if snapshot.missing:
        return ManifestState(errors={directory: _same(previous, ManifestError(directory, "no such directory"))})
    merge = _Merge(previous, node_name, seen_at)
    for name in sorted(snapshot.files):
        merge.read(str(snapshot.path / name), snapshot.files[name])
    return merge.result()


class _Merge:
    """Collects the candidates of one snapshot, then settles which of them run."""

    def __init__(self, previous: ManifestState, node_name: str, seen_at: str) -> None:
        self._previous = previous
        self._node_name = node_name
        self._seen_at = seen_at
        self._good: dict[str, tuple[Content, bytes]] = {}
        self._errors: dict[str, ManifestError] = {}
        self._frozen = {one.key: one for one in previous.objects.values() if one.immutable}

    def read(self, path: str, content: bytes | FileProblem) -> None:
        if isinstance(content, FileProblem):
            self._errors[path] = ManifestError(path, content.message)
            return
        known = self._last_good(path)
        if known is not None and known[1] == content:
            self._good[path] = known
            return
        try:
            found = _read(content, path, self._node_name, self._seen_at)
            if isinstance(found, ConfigData):
                check_immutable(found, self._frozen.get(found.key), content, path)
        except ManifestError as error:
            self._errors[path] = error
            return
        self._good[path] = found, content

    def result(self) -> ManifestState:
        owners: dict[str, str] = {}
        chosen: dict[str, tuple[Content, bytes]] = {}
        for path in sorted(self._good, key=lambda one: (not self._runs_already(one), one)):
            name = _title(self._good[path][0])
            if name in owners:
                message = f"{name} is already defined by {owners[name]}"
                line = name_line(self._good[path][1], path)
                self._errors[path] = ManifestError(path, message, "metadata.name", line)
            else:
                owners[name] = path
                chosen[path] = self._good[path]
        for path in sorted(self._errors):
            known = self._last_good(path)
            if known is not None and _title(known[0]) not in owners:
                owners[_title(known[0])] = path
                chosen[path] = known
        return _picture(chosen, {path: _same(self._previous, error) for path, error in sorted(self._errors.items())})

    def _last_good(self, path: str) -> tuple[Content, bytes] | None:
        found, data = self._previous.pods.get(path) or self._previous.objects.get(path), self._previous.raw.get(path)
        return None if found is None or data is None else (found, data)

    def _runs_already(self, path: str) -> bool:
        known = self._last_good(path)
        return known is not None and _title(known[0]) == _title(self._good[path][0])


def _read(data: bytes, path: str, node_name: str, seen_at: str) -> Content:
    found = parse_manifest(data, path, node_name)
    return found if isinstance(found, ConfigData) else SourcedPod(seen(found, seen_at), path)


def _picture(chosen: Mapping[str, tuple[Content, bytes]], errors: Mapping[str, ManifestError]) -> ManifestState:
    paths = sorted(chosen)
    found = {path: chosen[path][0] for path in paths}
    return ManifestState(
        pods={path: one for path, one in found.items() if isinstance(one, SourcedPod)},
        errors=errors,
        raw={path: chosen[path][1] for path in paths},
        objects={path: one for path, one in found.items() if isinstance(one, ConfigData)},
    )


def _title(found: Content) -> str:
    """By what two files clash: `pod NAMESPACE/NAME`."""
    if isinstance(found, ConfigData):
        return f"{found.resource} {found.namespace}/{found.name}"
    return f"pod {full_name(found.pod)}"


def _same(previous: ManifestState, error: ManifestError) -> ManifestError:
    """The error of the previous picture where it says the same, so that who compares sees no news."""
    before = previous.errors.get(error.path)
    return before if before is not None and str(before) == str(error) else error


async def watch_manifests(
    settings: ManifestSettings, previous: ManifestState | None = None
) -> AsyncGenerator[ManifestState]:
    """Yield the picture at once, then at each change, for ever.

    `previous`: what an earlier run remembered.  Without a directory the only picture is the empty one.
    """
    if settings.static_pod_path is None:
        yield ManifestState()
        await asyncio.Event().wait()
        return
    state = previous or ManifestState()
    snapshots = watch_directory(
        settings.static_pod_path, accept=accept_manifest, rescan_s=settings.file_check_frequency_s
    )
    async with contextlib.aclosing(snapshots):  # type: ignore[type-var]  # it is an async generator
        async for snapshot in snapshots:
            now = rfc3339(datetime.datetime.now(datetime.UTC))
            state = merge_snapshot(state, snapshot, settings.node_name, now)
            yield state
