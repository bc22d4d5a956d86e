"""What `longshore control-plane etcd snapshot restore` refuses, and that it then has changed nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import cli.etcd as module
from daemonkit.files import locked_directory
from tests.loopback.cli.test_backup_cluster import contents
from tests.loopback.cli.test_cluster import phase
from tests.unit.cli.conftest import Node
from tests.unit.control_plane.bolt_files import database, revision, with_digest


@pytest.fixture
def plane(node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """With certificates, without data of etcd; no agent runs, and etcd has no other members."""
    monkeypatch.setattr(module, "working_others", lambda _: [])
    assert phase(node, "certs").exit_code == 0
    return node


def snapshot(node: Node, *, version: str = "3.6.0", authority: bytes | None = None) -> Path:
    """Of the cluster whose authority it holds, else of this one."""
    key, pem = revision(2), authority or (node.base / "kubernetes" / "pki" / "ca.crt").read_bytes()
    file = node.base.parent / "etcd.snapshot"
    file.write_bytes(with_digest(database([revision(1), key], version, {key: pem})))
    return file


def refused(node: Node, said: str, file: Path, *more: str) -> None:
    before = contents(node.base)
    found = phase(node, "etcd", "snapshot", "restore", str(file), *more)
    assert (found.exit_code != 0, said in found.output) == (True, True), found.output
    assert contents(node.base) == before


def test_only_a_snapshot_of_this_cluster_and_of_this_etcd_is_restored(plane: Node) -> None:
    refused(plane, "the agent does not run", snapshot(plane))
    refused(plane, "it is of another cluster", snapshot(plane, authority=b"-----BEGIN CERTIFICATE-----\n"))
    refused(plane, "it is of etcd 3.7", snapshot(plane, version="3.7.1"), "--force")
    file = snapshot(plane)
    file.write_bytes(file.read_bytes()[:-1])
    refused(plane, "it is cut off", file, "--force")
    file = snapshot(plane)
    (plane.base / "kubernetes" / "pki" / "ca.crt").unlink()
    refused(plane, "nobody can tell of which cluster it is", file, "--force")


def test_data_that_are_there_are_kept_unless_it_is_said_and_members_that_work_always(
    plane: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plane.base / "etcd" / "member").mkdir(parents=True)
    refused(plane, "etcd has data in", snapshot(plane))
    refused(plane, "the agent does not run", snapshot(plane), "--force")
    monkeypatch.setattr(module, "working_others", lambda _: ["plane-2"])
    refused(plane, "etcd has members that work on plane-2", snapshot(plane), "--force")


def test_one_restore_at_a_time(plane: Node) -> None:
    with locked_directory(plane.base / "kubernetes"):
        refused(plane, "another restore is at work", snapshot(plane))
    refused(plane, "the agent does not run", snapshot(plane))
