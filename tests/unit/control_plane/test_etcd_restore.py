"""A restore of etcd, cut off between any two steps."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import yaml

import control_plane.files
import control_plane.record
from agent.sources.manifest import parse_static_pod
from control_plane.errors import ControlPlaneError
from control_plane.etcd_restore import POD, Restore, delay, made_data, outcome, restore_pod
from control_plane.files import Files
from control_plane.manifest_files import write_manifests
from control_plane.record import Record
from control_plane.removal import remove_all
from control_plane.settings import COMPONENTS, ClusterSettings, Places
from daemonkit.files import write_atomic

SETTINGS = ClusterSettings(node_name="plane-1", advertise_address="192.0.2.1")


class Machine:
    """With a control plane that has data."""

    def __init__(self, base: Path) -> None:
        self.places = Places(
            kubernetes_dir=base / "kubernetes", manifest_dir=base / "manifests", etcd_dir=base / "etcd"
        )
        for directory in (self.places.kubernetes_dir, self.places.manifest_dir, self.places.etcd_data):
            directory.mkdir(parents=True)
        (self.places.etcd_data / "old").touch()
        for component in COMPONENTS:
            self.places.manifest(component).write_text(f"# {component}")
        (self.places.manifest_dir / "other.yaml").write_text("# somebody's")

    def restore(self) -> Restore:
        """As a new run of the command has it."""
        return Restore(self.places, Files(Record(self.places.kubernetes_dir)))

    def etcdutl(self) -> None:
        (made_data(self.places) / "member").mkdir(parents=True)
        (made_data(self.places) / "member" / "new").touch()

    def names(self) -> set[str]:
        return {path.name for path in self.places.manifest_dir.iterdir()}

    def data(self) -> list[str]:
        return [path.name for path in self.places.etcd_data.iterdir()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


ALL = {f"{name}.yaml" for name in COMPONENTS} | {"other.yaml"}


def test_a_restore_from_beginning_to_end(machine: Machine) -> None:
    work = machine.restore()
    work.put_manifests_aside(COMPONENTS)
    assert machine.names() == {"other.yaml"}
    assert machine.places.manifests_aside.stat().st_mode & 0o777 == 0o700
    work.begin(SETTINGS, Path("/snapshots/today"))
    assert machine.names() == {"other.yaml", f"{POD}.yaml"}
    machine.etcdutl()
    kept = work.put_in_place()
    assert machine.data() == ["new"]
    assert kept is not None
    assert [path.name for path in kept.iterdir()] == ["old"]
    work.end()
    work.put_manifests_back()
    assert machine.names() == ALL
    assert machine.places.manifest("etcd").read_text() == "# etcd"
    assert {path.name for path in machine.places.etcd_dir.iterdir()} == {"member", kept.name}
    assert not work.was_cut_off


def test_without_data_the_manifests_wait_and_nobody_writes_others(machine: Machine) -> None:
    work = machine.restore()
    work.put_manifests_aside(COMPONENTS)
    shutil.rmtree(machine.places.etcd_data)
    work.put_manifests_back()
    assert machine.names() == {"other.yaml"}
    with pytest.raises(ControlPlaneError, match=r"holds those of a restore of etcd that is not through"):
        write_manifests(SETTINGS, machine.places, Files(Record(machine.places.kubernetes_dir)))
    assert machine.names() == {"other.yaml"}
    removed = remove_all(Record(machine.places.kubernetes_dir), frozenset())
    assert machine.places.manifests_aside in removed


@pytest.mark.parametrize("steps", range(7))
def test_a_run_that_was_cut_off_is_completed_by_the_next(machine: Machine, steps: int) -> None:
    first = machine.restore()
    each = (
        lambda: first.put_manifests_aside(COMPONENTS[1:]),
        lambda: first.put_manifests_aside(COMPONENTS),
        lambda: first.begin(SETTINGS, Path("/snapshots/today")),
        machine.etcdutl,
        first.put_in_place,
        first.end_pod,
        first.end,
    )
    for step in each[:steps]:
        step()
    assert machine.data() in (["old"], ["new"])
    again = machine.restore()
    assert again.was_cut_off == (steps > 0)
    again.put_manifests_aside(COMPONENTS)
    again.end()
    again.begin(SETTINGS, Path("/snapshots/today"))
    machine.etcdutl()
    again.put_in_place()
    again.end()
    again.put_manifests_back()
    assert machine.names() == ALL
    assert machine.data() == ["new"]
    kept = sorted(path.name for path in machine.places.etcd_dir.glob("member.before-restore-*"))
    assert [path.name for path in (machine.places.etcd_dir / kept[0]).iterdir()] == ["old"]


@pytest.mark.parametrize("room", range(4))
def test_on_a_full_disk_all_is_as_it_was(machine: Machine, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """There is room for so many files; the disk stays full while it is put right."""
    left = iter(range(room))

    def write(path: Path, data: bytes, mode: int = 0o600) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_atomic(path, data, mode)

    for module in (control_plane.files, control_plane.record):
        monkeypatch.setattr(module, "write_atomic", write)
    work = machine.restore()

    def all_steps() -> None:
        work.put_manifests_aside(COMPONENTS)
        work.begin(SETTINGS, Path("/snapshots/today"))
        machine.etcdutl()
        work.put_in_place()

    with pytest.raises(ControlPlaneError, match="No space left on device"):
        all_steps()
    work.end()
    work.put_manifests_back()
    assert machine.names() == ALL
    assert machine.data() == ["old"]
    assert [path.name for path in machine.places.etcd_dir.iterdir()] == ["member"], "the disk stays full"
    assert not machine.restore().was_cut_off


def test_manifests_are_put_aside_on_another_file_system(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(source: Path, target: Path) -> Path:
        if (
            target.parent in (machine.places.manifests_aside, machine.places.manifest_dir)
            and source.name == target.name
        ):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return original(source, target)

    original = Path.rename
    monkeypatch.setattr(Path, "rename", rename)
    work = machine.restore()
    work.put_manifests_aside(COMPONENTS)
    assert machine.names() == {"other.yaml"}
    work.put_manifests_back()
    assert machine.names() == ALL
    assert machine.places.manifest("etcd").read_text() == "# etcd"


def test_nothing_is_put_in_place_that_etcdutl_has_not_made(machine: Machine) -> None:
    work = machine.restore()
    machine.etcdutl()  # in a run that was cut off
    work.begin(SETTINGS, Path("/snapshots/today"))
    with pytest.raises(ControlPlaneError, match="etcdutl has made no member there"):
        work.put_in_place()
    assert machine.data() == ["old"]


def test_a_pod_of_that_name_that_is_somebody_elses_stays(machine: Machine) -> None:
    machine.places.manifest(POD).write_text("# somebody's")
    machine.restore().end()
    assert machine.places.manifest(POD).read_text() == "# somebody's"


def test_our_own_agent_takes_the_pod(machine: Machine) -> None:
    text = yaml.safe_dump(restore_pod(SETTINGS, machine.places, Path("/snapshots/today"))).encode()
    pod = parse_static_pod(text, "/manifests/etcd-restore.yaml", "plane-1")
    assert pod.spec is not None
    (container,) = pod.spec.containers
    command = container.command or []
    assert "--initial-cluster=plane-1=https://192.0.2.1:2380" in command
    assert {"--bump-revision=1000000000", "--mark-compacted"} <= set(command)
    read_only = {mount.name for mount in container.volumeMounts or () if mount.readOnly}
    assert read_only == {"snapshot"}


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (None, (False, "")),
        ({"phase": "Running"}, (False, "")),
        ({"phase": "Succeeded"}, (True, "")),
        ({"phase": "Failed", "message": "no such image"}, (True, "no such image")),
        (
            {"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"message": "data-dir exists\n"}}}]},
            (True, "data-dir exists"),
        ),
        ({"phase": "Failed", "containerStatuses": []}, (True, "it gave no reason")),
    ],
)
def test_what_the_pods_status_says_of_the_restore(status: dict[str, object] | None, found: tuple[bool, str]) -> None:
    assert outcome(status) == found


def test_why_the_pod_does_not_begin() -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "no such host"}
    assert delay({"containerStatuses": [{"state": {"waiting": waiting}}]}) == "ImagePullBackOff: no such host"
    assert delay({"containerStatuses": [{"state": {"running": {}}}]}) == ""
    assert delay(None) == ""
