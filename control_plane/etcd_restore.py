"""Makes etcd's data of a snapshot: a static pod of etcd's own image runs etcdutl once, and the result is put in place.
I/O: the manifest directory and etcd's.

Before: `snapshot` has judged the file, `cli.etcd` that nothing of the control plane runs.  Next: `longshore up`, or the
manifests that are put back, start etcd on it.  Cut off anywhere, etcd has its old data or the whole new ones, and the
same command goes on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from control_plane.errors import ControlPlaneError
from control_plane.files import Content, Files
from control_plane.manifest_files import render_manifest
from control_plane.manifests import Json
from control_plane.record import Record
from control_plane.settings import COMPONENTS, ETCD, ETCD_PEER_PORT, ClusterSettings, Places, url
from daemonkit.files import move_durably, remove_durably, sync_directory

POD = "etcd-restore"
_SNAPSHOT_PLACE = "/snapshot.db"
# Watchers that have seen more of the lost history than the snapshot has must not take what comes now for old news.
_BUMP = 1_000_000_000


def restore_pod(settings: ClusterSettings, places: Places, snapshot: Path) -> Json:
    """The static pod that makes the data in `made_data`.  Pure."""
    peer = url("https", settings.advertise_address, ETCD_PEER_PORT)
    command = [
        "etcdutl", "snapshot", "restore", _SNAPSHOT_PLACE,
        f"--data-dir={made_data(places)}",
        f"--name={settings.node_name}",
        f"--initial-cluster={settings.node_name}={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--bump-revision={_BUMP}", "--mark-compacted",
    ]  # fmt: skip
    container = {
        "name": POD,
        "image": settings.image(ETCD),
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "snapshot", "mountPath": _SNAPSHOT_PLACE, "readOnly": True},
            {"name": "etcd", "mountPath": str(places.etcd_dir)},
        ],
    }
    volumes = [
        {"name": "snapshot", "hostPath": {"path": str(snapshot), "type": "File"}},
        {"name": "etcd", "hostPath": {"path": str(places.etcd_dir), "type": "Directory"}},
    ]
    spec = {"containers": [container], "hostNetwork": True, "restartPolicy": "Never", "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": "kube-system"}, "spec": spec}


def made_data(places: Places) -> Path:
    """Where the data are made, beside their place."""
    return places.etcd_dir / "restored"


class Restore:
    """One restore. Every method raises ControlPlaneError, and may be called again after a run that was cut off."""

    def __init__(self, places: Places, files: Files) -> None:
        self._places = places
        self._files = files
        self._aside = places.manifests_aside

    @property
    def manifest(self) -> Path:
        """Of the pod."""
        return self._places.manifest(POD)

    @property
    def was_cut_off(self) -> bool:
        """Whether manifests wait to be put back."""
        return self._aside.is_dir()

    def put_manifests_aside(self, components: Collection[str]) -> None:
        """The agent ends these pods."""
        with _errors("put the manifests aside"):
            self._aside.mkdir(mode=0o700, exist_ok=True)
            note_waiting(self._places, self._files.record)
            for path in self._manifests(self._places.manifest_dir, components):
                move_durably(path, self._aside / path.name)

    def put_manifests_back(self) -> None:
        """The agent starts them again; not without data, as an empty etcd would be another cluster."""
        if not self._places.etcd_data.exists():
            return
        with _errors("put the manifests back"):
            for path in self._manifests(self._aside, COMPONENTS) if self.was_cut_off else ():
                move_durably(path, self._places.manifest_dir / path.name)
            if self.was_cut_off:
                self._aside.rmdir()
                self._forget(self._aside)

    def begin(self, settings: ClusterSettings, snapshot: Path) -> None:
        """Have the agent run etcdutl."""
        made = made_data(self._places)
        with _errors(f"remove {made}"):
            if made.exists():  # of a run that was cut off, and perhaps half of it
                shutil.rmtree(made)
        self._files.make_data_directory(self._places.etcd_dir, self._places.etcd_data)
        pod = restore_pod(settings, self._places, snapshot)
        self._files.write({self.manifest: Content(render_manifest(pod))})

    def end(self) -> None:
        """The pod goes, and what it has made and nobody has put in place: a full disk is not to stay so.  What still
        writes makes more of it.
        """
        self.end_pod()
        shutil.rmtree(made_data(self._places), ignore_errors=True)

    def end_pod(self) -> None:
        """The agent ends it."""
        with _errors(f"remove {self.manifest}"):
            if self.manifest in self._files.record.made:
                remove_durably(self.manifest)
                self._forget(self.manifest)

    def _forget(self, path: Path) -> None:
        """A record that names too much does no harm, so a full disk is nothing to stop for."""
        with contextlib.suppress(OSError):
            self._files.record.forget(path)

    def put_in_place(self) -> Path | None:
        """The data are etcd's from now on; where those lie that were there before."""
        data, made = self._places.etcd_data, made_data(self._places)
        kept = None
        with _errors(f"put {data} in place"):
            if not (made / data.name).is_dir():
                raise ControlPlaneError(f"cannot use {made}: etcdutl has made no {data.name} there")
            if data.exists():
                kept = _free_name(data)
                self._files.record.note({}, trees=[kept])  # it goes with the rest of the cluster
                os.rename(data, kept)
            os.rename(made / data.name, data)
            sync_directory(data.parent)
            shutil.rmtree(made)
        return kept

    def _manifests(self, directory: Path, components: Collection[str]) -> list[Path]:
        places = [directory / self._places.manifest(component).name for component in components]
        return [path for path in places if path.is_file()]


def outcome(entry: Mapping[str, object] | None) -> tuple[bool, str]:
    """Of the pod, by its status: whether it is over, and what it says against it.  Pure."""
    status = entry or {}
    phase = status.get("phase")
    lines = status.get("containerStatuses")
    first = lines[0] if isinstance(lines, list) and lines else {}
    ended = first.get("state", {}).get("terminated") or {}
    if phase == "Failed":
        said = str(ended.get("message") or status.get("message") or ended.get("reason") or "it gave no reason")
        return True, said.strip()
    return phase == "Succeeded", ""


def delay(entry: Mapping[str, object] | None) -> str:
    """Why the pod does not begin, "" where its status says nothing.  Pure."""
    lines = (entry or {}).get("containerStatuses")
    first = lines[0] if isinstance(lines, list) and lines else {}
    waiting = first.get("state", {}).get("waiting") or {}
    return ": ".join(str(waiting[field]) for field in ("reason", "message") if waiting.get(field))


def note_waiting(places: Places, record: Record) -> None:
    """What a restore of the node has brought for a restore of etcd is ours too.  Raises ControlPlaneError."""
    files = [path for path in (places.snapshot,) if path.exists()]
    trees = [path for path in (places.manifests_aside,) if path.exists()]
    with _errors(f"write {record.path}"):
        record.note({}, files, trees)


def _free_name(data: Path) -> Path:
    number = 1
    while (name := data.with_name(f"{data.name}.before-restore-{number}")).exists():
        number += 1
    return name


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ControlPlaneError(f"cannot {what}: {error.strerror or error}") from None
