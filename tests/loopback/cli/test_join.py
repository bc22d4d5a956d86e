"""What `longshore join` finds on the machine; that it joins is tests/cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import Result

from cli.failure import Failure
from control_plane.bootstrap import authority_pin
from control_plane.errors import ControlPlaneError
from control_plane.files import Files
from control_plane.kubeconfigs import user_kubeconfig
from control_plane.record import Record
from control_plane.x509 import parse_certificate
from lab.pki import Authority
from tests.unit.cli.conftest import Node

SERVER = "https://192.0.2.10:6443"
OTHER_PIN = f"sha256:{'0' * 64}"


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("cli.join.listening", dict)  # this machine may be one


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def write_kubelet_conf(node: Node, authority: Authority, *, ours: bool) -> Path:
    path = node.base / "kubernetes" / "kubelet.conf"
    path.parent.mkdir()
    path.write_bytes(user_kubeconfig(SERVER, authority.certificate.read_bytes(), "node", {"token": "x"}))
    if ours:
        Record(path.parent).note({}, [path])
    return path


def joined(node: Node, server: str, *options: str) -> Result:
    return node.run("join", server, f"--kubernetes-dir={node.base / 'kubernetes'}", *options)


def test_the_node_of_somebody_else_is_left_alone(node: Node, authority: Authority) -> None:
    path = write_kubelet_conf(node, authority, ours=False)
    found = joined(node, SERVER)
    assert (found.exit_code, "kubelet.conf: it is there, and longshore has not made it" in found.output) == (1, True)
    assert [one.name for one in path.parent.iterdir()] == ["kubelet.conf"]


def test_ports_in_use_are_named_with_their_holder(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.join.listening", lambda: {10250: (12, "kubelet"), 10256: (13, "longshore-proxy")})
    found = joined(node, SERVER, f"--config-dir={node.base}")
    says = "port 10250 of longshore-agent: in use by process 12 (kubelet); stop that program, or choose another port"
    assert (found.exit_code, found.output) == (1, f"longshore: cannot join:\n  {says}\n")
    assert not (node.base / "kubernetes").exists()


def test_a_file_of_somebody_else_is_free_only_for_the_same_content(tmp_path: Path) -> None:
    path, files = tmp_path / "ca.crt", Files(Record(tmp_path))
    files.check_free(path, b"ours")
    path.write_bytes(b"theirs")
    files.check_free(path, b"theirs")
    with pytest.raises(ControlPlaneError, match="longshore has not made it"):
        files.check_free(path, b"ours")
    files.record.note({path: b"ours"})
    files.check_free(path, b"ours")


@pytest.mark.parametrize(
    ("server", "pin", "same"),
    [
        (SERVER, None, True),
        (f"{SERVER}/", None, True),
        ("https://192.0.2.11:6443", None, False),
        (SERVER, OTHER_PIN, False),
        ("https://by.another.name:6443", "", True),  # the pin of this authority
    ],
)
def test_a_node_of_another_cluster_is_told_so(
    node: Node, authority: Authority, server: str, pin: str | None, same: bool
) -> None:
    write_kubelet_conf(node, authority, ours=True)
    own = authority_pin(parse_certificate(authority.certificate.read_bytes()))
    options = [] if pin is None else [f"--discovery-token-ca-cert-hash={pin or own}"]
    found = joined(node, server, *options)
    if same:
        assert "say --token: this machine has not joined yet" in found.output
    else:
        assert f"is a node of {SERVER} already, whose authority is {own}; longshore down first" in found.output
    assert found.exit_code == (2 if same else 1)


@pytest.mark.parametrize("has_joined", [False, True])
def test_an_agent_that_has_not_joined_starts_again_to_read_the_token(
    node: Node, monkeypatch: pytest.MonkeyPatch, has_joined: bool
) -> None:
    def start(commands: Mapping[str, list[str]], *, again: bool = False) -> None:
        begun.append((list(commands), again))
        raise Failure("that is far enough")

    begun: list[tuple[list[str], bool]] = []
    monkeypatch.setattr("cli.join.booted_by_systemd", lambda: True)
    monkeypatch.setattr("cli.join._has_joined", lambda _cluster: has_joined)
    monkeypatch.setattr("cli.join.discover", lambda *_: "what the cluster says of itself")
    monkeypatch.setattr("cli.join._write", lambda *_: ())  # the same token, noted before a crash
    monkeypatch.setattr("cli.join.start", start)
    options = ("--token=abcdef.0123456789abcdef", f"--discovery-token-ca-cert-hash={OTHER_PIN}")
    found = joined(node, SERVER, *options, f"--unit-dir={node.base / 'units'}")
    assert "that is far enough" in found.output
    assert begun == [(["longshore-agent"], not has_joined)]
