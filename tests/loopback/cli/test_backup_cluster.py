"""A node of a cluster is backed up and comes back: its certificates, and a control plane that waits for etcd's data."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import Result

from cli.backups.archive import Entry, digest, parse_archive, render_archive
from control_plane.settings import COMPONENTS
from tests.loopback.cli.test_cluster import options, phase
from tests.unit.cli.conftest import Node
from tests.unit.control_plane.bolt_files import database, revision, with_digest


@pytest.fixture
def plane(node: Node) -> Node:
    """With the files of a control plane, whose etcd has begun but does not answer."""
    for name in ("certs", "kubeconfigs", "manifests"):
        assert phase(node, name).exit_code == 0
    (node.base / "etcd" / "member").mkdir(parents=True)
    (node.base / "state").mkdir()
    node.options = (*node.options, f"--root-dir={node.base / 'state'}")
    return node


def backup(node: Node, name: str = "node.tgz") -> Result:
    return node.run(
        "backup", str(node.base.parent / name), f"--kubernetes-dir={node.base / 'kubernetes'}", "--node-name=node-1",
        f"--config-dir={node.base / 'none'}",
    )  # fmt: skip


def restore(node: Node, name: str = "node.tgz") -> Result:
    return node.run("restore", str(node.base.parent / name), "--node-name=node-1")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def wipe(node: Node) -> None:
    for name in ("kubernetes", "etcd", "manifests"):
        shutil.rmtree(node.base / name)


MANIFESTS = {f"{component}.yaml" for component in COMPONENTS}


def test_a_node_that_stands_alone_is_asked_for_nothing_more(node: Node) -> None:
    (node.manifests / "web.yaml").write_text("# a pod")
    assert "kubernetes" not in backup(node).stderr


def test_a_backup_of_a_control_plane_holds_its_keys_and_says_that_etcd_is_not_in_it(plane: Node) -> None:
    found = backup(plane)
    assert found.exit_code == 0, found.output
    last = found.stderr.splitlines()[-1]
    assert last.startswith("etcd's data are not in the backup: cannot get a snapshot from etcd")
    inventory, held = parse_archive((plane.base.parent / "node.tgz").read_bytes())
    assert inventory.control_plane is not None
    assert inventory.control_plane.snapshot == ""
    for name in ("pki/ca.key", "pki/sa.key", "pki/etcd/ca.key", "admin.conf", "longshore.json"):
        assert held[f"{plane.base}/kubernetes/{name}"] == (plane.base / "kubernetes" / name).read_bytes()


def test_on_an_empty_machine_the_control_plane_waits_for_etcds_data(plane: Node) -> None:
    before, manifests = contents(plane.base / "kubernetes"), contents(plane.manifests)
    backup(plane)
    wipe(plane)
    found = restore(plane)
    assert found.exit_code == 0, found.output
    assert "etcd snapshot restore with a snapshot of etcd; the backup has none" in found.output
    aside = plane.base / "kubernetes" / "manifests-of-restore"
    assert contents(aside) == manifests
    assert not plane.manifests.exists() or contents(plane.manifests) == {}
    shutil.rmtree(aside)
    assert contents(plane.base / "kubernetes") == before
    assert restore(plane).exit_code == 0
    assert contents(aside) == manifests
    refused = phase(plane, "manifests")
    assert refused.exit_code == 1
    assert "a restore of etcd that is not through" in refused.output
    up = plane.run("up", "--control-plane", *options(plane))
    assert up.exit_code == 1
    assert "a restore of etcd that is not through" in up.output


def test_where_etcd_has_its_data_the_manifests_are_put_in_place(plane: Node) -> None:
    before = contents(plane.manifests)
    backup(plane)
    shutil.rmtree(plane.base / "kubernetes")
    shutil.rmtree(plane.manifests)
    assert "wait" not in restore(plane).output
    assert contents(plane.manifests) == before
    assert phase(plane, "manifests").output == ""


def test_while_a_restore_of_etcd_is_not_through_the_manifests_go_on_waiting(plane: Node) -> None:
    backup(plane)
    wipe(plane)
    restore(plane)
    (plane.base / "etcd" / "member").mkdir(parents=True)
    assert "manifests wait in" in restore(plane).output
    assert not plane.manifests.exists() or contents(plane.manifests) == {}


@pytest.mark.parametrize("of_cluster", [True, False])
def test_a_snapshot_is_in_the_backup_if_a_restore_would_take_it(
    plane: Node, monkeypatch: pytest.MonkeyPatch, of_cluster: bool
) -> None:
    authority = (plane.base / "kubernetes" / "pki" / "ca.crt").read_bytes()
    key = revision(1)
    data = with_digest(database([key, revision(2)], values={key: authority if of_cluster else b""}))
    monkeypatch.setattr("cli.backups.control_plane.snapshot_parts", lambda *_: iter((data[:100], data[100:])))
    said = backup(plane).stderr
    inventory, held = parse_archive((plane.base.parent / "node.tgz").read_bytes())
    assert inventory.control_plane is not None
    assert held.get(inventory.control_plane.snapshot) == (data if of_cluster else None)
    assert ("etcd does not hold the cluster's authority yet" in said) is not of_cluster


def test_another_root_is_looked_at_for_data(plane: Node, tmp_path: Path) -> None:
    backup(plane)
    disk = plane.base / "disk"
    disk.mkdir()
    found = plane.run("restore", str(plane.base.parent / "node.tgz"), "--node-name=node-1", f"--root={disk}")
    assert "manifests wait in" in found.output, found.output
    assert set(contents(disk / str(plane.base / "kubernetes" / "manifests-of-restore").lstrip("/"))) == MANIFESTS


def test_an_old_snapshot_does_not_pass_for_a_new_one(plane: Node) -> None:
    """A restore has left one, and now etcd does not answer."""
    old = plane.base / "kubernetes" / "etcd.snapshot"
    old.write_bytes(b"of last year")
    backup(plane)
    _, held = parse_archive((plane.base.parent / "node.tgz").read_bytes())
    assert str(old) not in held


def test_the_snapshot_of_a_backup_is_named_and_goes_with_the_cluster(
    plane: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.down.listening", dict)  # not the ports of the machine that runs the tests
    backup(plane)
    file = plane.base.parent / "node.tgz"
    inventory, held = parse_archive(file.read_bytes())
    assert inventory.control_plane is not None
    path, data = str(plane.base / "kubernetes" / "etcd.snapshot"), b"etcd's"
    inventory.entries.append(
        Entry(path=path, kind="file", mode=0o600, uid=0, gid=0, size=len(data), sha256=digest(data))
    )
    whole = {"snapshot": path, "etcd_data": inventory.control_plane.etcd_data}
    plane_part = type(inventory.control_plane)(
        **whole, aside=inventory.control_plane.aside, manifests=inventory.control_plane.manifests
    )
    changed = type(inventory)(
        **{name: getattr(inventory, name) for name in inventory.__struct_fields__ if name != "control_plane"},
        control_plane=plane_part,
    )
    file.write_bytes(render_archive(changed, {**held, path: data}))
    wipe(plane)
    assert f"then: longshore control-plane etcd snapshot restore {path}" in restore(plane).output
    down = plane.run("down", "--yes", f"--kubernetes-dir={plane.base / 'kubernetes'}", f"--unit-dir={plane.base / 'u'}")
    assert down.exit_code == 0, down.output
    assert not (plane.base / "kubernetes").exists()
