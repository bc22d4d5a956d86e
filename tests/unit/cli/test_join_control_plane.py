"""What `longshore join --control-plane` refuses before it writes anything; that it joins: tests/cluster/test_ha.py."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

import cli.join_control_plane as module
from cli.discovery import Discovered
from cli.failure import NOT_FOUND, Failure
from control_plane.sharing import CONFIG, SECRET, new_certificate_key
from lab.pki import Authority
from tests.unit.cli.conftest import Node

SERVER = "https://192.0.2.10:6443"


@pytest.fixture
def cluster_says(node: Node, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Path -> object, of the cluster that is found."""
    found: dict[str, Any] = {}

    def get(_: object, path: str) -> bytes:
        if path not in found:
            raise Failure(f"cannot get {path}: not found", NOT_FOUND)
        return json.dumps(found[path]).encode()

    authority = Authority(node.base / "authority").certificate.read_bytes()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(module, "discover", lambda *_: Discovered(SERVER, authority))
    monkeypatch.setattr(module, "refuse_taken_name", lambda *_: None)
    monkeypatch.setattr("cli.api.get", get)
    return found


def refused(node: Node) -> str:
    """What is said, of a machine on which nothing was made."""
    options = ("--token=abcdef.0123456789abcdef", "--discovery-token-unsafe-skip-ca-verification", "--control-plane")
    own = (f"--kubernetes-dir={node.base / 'kubernetes'}", "--node-name=plane-2", "--advertise-address=192.0.2.2")
    found = node.run("join", SERVER, *options, *own, f"--certificate-key={new_certificate_key()}")
    assert found.exit_code in (1, NOT_FOUND), found.output
    assert not (node.base / "kubernetes").exists()
    assert not list(node.manifests.iterdir())
    return found.output


def test_an_upload_that_expired_is_named_with_what_makes_another(node: Node, cluster_says: dict[str, Any]) -> None:
    cluster_says[CONFIG] = {"data": {"settings": "{}"}}
    said = refused(node)
    assert f"cannot join: cannot get {SECRET}: not found; longshore control-plane upload-certs on a control" in said


def test_an_upload_that_was_cut_off_or_is_damaged(node: Node, cluster_says: dict[str, Any]) -> None:
    cluster_says[SECRET] = {"data": {}}
    assert f"cannot get {CONFIG}: not found; longshore control-plane upload-certs" in refused(node)
    cluster_says[CONFIG] = {"data": {"settings": "{}"}}
    assert "cannot read Secret kubeadm-certs: its ca.crt is missing or damaged" in refused(node)
