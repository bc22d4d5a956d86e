"""What `longshore down` waits for, and what it leaves where it is; that it takes a cluster away is tests/cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from agent.container_spec.labels import API_SOURCE, CONFIG_SOURCE, FILE_SOURCE
from cli.down import _delete_rules
from cli.failure import Failure
from cli.sandboxes import Sandboxes, api_pods, lease_holders, names
from cli.target import Target
from control_plane.errors import ControlPlaneError
from control_plane.record import Record
from control_plane.removal import remove_all
from cri_client.errors import CriError
from cri_client.types import PodSandbox, PodSandboxMetadata
from tests.unit.cli.conftest import Node


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the systemd nor the ports of the machine that runs the tests."""
    monkeypatch.setattr("cli.down.booted_by_systemd", lambda: False)
    monkeypatch.setattr("cli.down.listening", dict)


def phases(node: Node, *names: str) -> Record:
    directory = node.base / "kubernetes"
    places = (f"--kubernetes-dir={directory}", f"--etcd-dir={node.base / 'etcd'}")
    for name in names:
        done = node.run("control-plane", *places, "--node-name=n", "--advertise-address=192.0.2.10", name)
        assert done.exit_code == 0, done.output
    return Record(directory)


def taken_away(node: Node) -> Result:
    places = (f"--kubernetes-dir={node.base / 'kubernetes'}", f"--unit-dir={node.base / 'units'}")
    return node.run("down", "--yes", "--timeout=1", *places)


def sandbox(name: str, source: str = API_SOURCE, sandbox_id: str = "") -> PodSandbox:
    metadata = PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="default")
    return PodSandbox(id=sandbox_id or name, metadata=metadata, annotations={CONFIG_SOURCE: source})


def status(endpoint: Path) -> dict[str, Any]:
    return {"/v1/status": {"runtime": {"endpoint": f"unix://{endpoint}"}}}


def holds(monkeypatch: pytest.MonkeyPatch, found: Iterable[PodSandbox]) -> None:
    monkeypatch.setattr("cli.sandboxes.list_sandboxes", lambda _endpoint: tuple(found))


def test_the_pods_of_a_kubelet_are_not_ours() -> None:
    found = [sandbox("ours"), sandbox("of-a-kubelet"), sandbox("static", FILE_SOURCE)]
    assert names(api_pods(found, {"uid-ours", "uid-static"})) == ["default/ours"]


def test_a_runtime_that_cannot_be_asked_is_waited_for(live: Node) -> None:
    phases(live, "certs", "kubeconfigs", "manifests")
    live.agent = status(live.base / "none.sock")
    (live.base / "records").mkdir()
    (live.base / "records" / "uid-web.json").write_text("{}")
    done = taken_away(live)
    assert (done.exit_code, "none.sock" in done.output) == (1, True), done.output
    assert (live.manifests / "etcd.yaml").exists()
    (live.base / "records" / "uid-web.json").unlink()  # no pod was ever here: nothing to ask about
    live.agent["/v1/pods"] = {"pods": []}
    assert taken_away(live).exit_code == 0


def test_the_runtime_is_remembered_while_the_agent_starts_again(live: Node) -> None:
    live.agent = status(live.base / "none.sock")
    target = Target(root_dir=live.base, agent_socket=live.base / "agent.sock", proxy_socket=live.base / "proxy.sock")
    sandboxes = Sandboxes(target)
    live.agent = {}
    (live.base / "pods" / "uid-web").mkdir(parents=True)
    with pytest.raises(CriError, match=r"none\.sock"):
        sandboxes.of_api_server()


def test_pods_of_the_api_server_are_waited_for_where_the_agent_keeps_them(
    live: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases(live, "certs")
    root = live.base / "elsewhere"
    (root / "pods" / "uid-web").mkdir(parents=True)
    live.agent = {"/v1/status": {"rootDir": str(root)}}
    holds(monkeypatch, [sandbox("web"), sandbox("of-a-kubelet")])
    done = taken_away(live)
    assert done.exit_code == 1
    assert "pods of the cluster are ending: default/web;" in done.output


def test_leases_are_of_sandboxes(tmp_path: Path) -> None:
    assert lease_holders(tmp_path / "absent") == frozenset()
    (tmp_path / "10.244.0.5").write_text("s1\r\neth0")
    (tmp_path / "lock").touch()
    assert lease_holders(tmp_path) == {"s1"}


def test_the_network_stays_under_a_pod_that_is_none_of_the_cluster(live: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    record = phases(live, "certs", "kubeconfigs", "manifests")
    leases = live.base / "leases"
    leases.mkdir()
    for number, name in enumerate(("web", "own"), 2):
        (leases / f"10.244.0.{number}").write_text(f"{name}\r\neth0")
    monkeypatch.setattr("cli.down.LEASES", leases)
    record.note({}, trees=[leases])
    (live.base / "pods" / "uid-web").mkdir(parents=True)
    holds(monkeypatch, [sandbox("web"), sandbox("own", FILE_SOURCE), sandbox("on-the-host", FILE_SOURCE)])
    before = sorted(live.base.rglob("*"))
    done = taken_away(live)
    assert done.exit_code == 1
    assert "pods have addresses of longshore0: default/own; remove their manifests" in done.output
    assert sorted(live.base.rglob("*")) == before


def test_a_pod_of_somebody_else_with_the_name_of_a_component_stays(live: Node) -> None:
    phases(live, "certs", "kubeconfigs")
    (live.manifests / "etcd.yaml").write_text("theirs")
    live.agent = {"/v1/pods": {"pods": [{"pod": {"metadata": {"name": "etcd-n", "namespace": "default"}}}]}}
    done = taken_away(live)
    assert done.exit_code == 0, done.output
    assert (live.manifests / "etcd.yaml").read_text() == "theirs"


def test_a_pod_of_another_file_with_the_name_of_a_component_is_not_waited_for(live: Node) -> None:
    phases(live, "certs", "kubeconfigs")
    entry = {"pod": {"metadata": {"name": "etcd-n", "namespace": "default"}}, "source": "/manifests/own.yaml"}
    live.agent = {"/v1/pods": {"pods": [entry]}}
    done = taken_away(live)
    assert done.exit_code == 0, done.output


def test_a_key_in_the_place_of_ours_stays_and_is_named(node: Node) -> None:
    phases(node, "certs", "kubeconfigs", "manifests")
    key, edited = node.base / "kubernetes/pki/ca.key", node.manifests / "etcd.yaml"
    for path in (key, edited):
        path.write_text("another")
    done = taken_away(node)
    assert (done.exit_code, f"left {key}: " in done.output) == (0, True), done.output
    assert [path for path in node.base.rglob("*") if path.is_file()] == [key]


def test_data_of_an_etcd_that_has_moved_go_too(node: Node) -> None:
    phases(node, "certs", "kubeconfigs", "manifests")
    (node.base / "etcd" / "member" / "wal").mkdir(parents=True)
    places = (f"--kubernetes-dir={node.base / 'kubernetes'}", f"--etcd-dir={node.base / 'moved'}")
    assert node.run("control-plane", *places, "manifests").exit_code == 0
    remove_all(Record(node.base / "kubernetes"), frozenset())
    assert sorted(node.base.iterdir()) == [node.manifests, node.services]


@pytest.mark.parametrize("lists", ["exit 1", "exit 0", "echo table ip longshore-pods", ""])
def test_rules_are_deleted_where_there_is_a_table_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: str
) -> None:
    """A kernel without nf_tables for IP lists nothing, or nothing but an error, and cannot delete either."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if lists:
        nft = tmp_path / "nft"
        nft.write_text(
            f'#!/bin/sh\nif [ "$1" = list ]; then {lists}; else echo Operation not supported >&2; exit 1; fi\n'
        )
        nft.chmod(0o755)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    if "table" in lists:
        with pytest.raises(Failure, match="Operation not supported"):
            _delete_rules("delete table ip longshore-pods", "longshore-pods")
    else:
        _delete_rules("delete table ip longshore-pods", "longshore-pods")


@pytest.mark.parametrize("where", ["member", "member/wal"])
def test_what_is_mounted_in_a_directory_that_goes_is_not_emptied(node: Node, root: None, where: str) -> None:
    phases(node, "certs", "kubeconfigs", "manifests")
    place = node.base / "etcd" / where
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "foreign", place], check=True)
    try:
        (place / "foreign").touch()
        with pytest.raises(ControlPlaneError, match=f"a file system is mounted at {place}; unmount it first"):
            remove_all(Record(node.base / "kubernetes"), frozenset())
        assert (place / "foreign").exists()
    finally:
        subprocess.run(["umount", place], check=True)
    remove_all(Record(node.base / "kubernetes"), frozenset())
    assert not (node.base / "etcd").exists()
