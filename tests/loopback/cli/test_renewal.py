"""What people are told of certificates: by `check` before they expire, by `renew` who has to start again."""

from __future__ import annotations

import datetime

import pytest

from cli.cluster import open_cluster
from cli.preflight import Finding
from cli.preflight_certificates import certificate_findings
from cli.target import Target
from control_plane.files import Content
from control_plane.pki import Pki
from tests.loopback.cli.test_cluster import phase
from tests.unit.cli.conftest import Node


def target(node: Node) -> Target:
    sockets = {"agent_socket": node.base / "a", "proxy_socket": node.base / "p"}
    return Target(root_dir=node.base, manifest_dir=node.manifests, **sockets)


def findings(node: Node) -> list[Finding]:
    return list(certificate_findings(target(node), node.base / "kubernetes"))


@pytest.mark.parametrize(
    ("age_days", "ok", "words"),
    [
        (0, True, "the first to expire is apiserver, on"),
        (340, None, "the first to expire is apiserver, on"),
        (366, False, "apiserver.crt: it has expired on"),
    ],
)
def test_check_tells_before_a_certificate_expires(node: Node, age_days: int, ok: bool | None, words: str) -> None:
    assert findings(node) == []
    issued = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age_days)
    values = {"node_name": "node-1", "advertise_address": "192.0.2.10", "kubernetes_dir": node.base / "kubernetes"}
    cluster = open_cluster(target(node), values)
    cluster.remember()
    Pki(cluster.places.pki, cluster.files, issued).ensure(cluster.settings)
    cluster.kubeconfigs.ensure(cluster.settings)
    assert findings(node) == [], "a node that has joined renews its own"
    cluster.files.write({cluster.places.manifest("etcd"): Content(b"")})
    (found,) = findings(node)
    assert found.ok is ok
    assert words in found.detail
    assert bool(found.fix) == (ok is not True)


def test_a_broken_record_is_a_finding(node: Node) -> None:
    (node.base / "kubernetes").mkdir()
    (node.base / "kubernetes" / "longshore.json").write_text("{")
    assert [(one.ok, "it is not what longshore writes" in one.detail) for one in findings(node)] == [(False, True)]


def test_renew_says_who_has_to_start_again(node: Node) -> None:
    for name in ("certs", "kubeconfigs"):
        phase(node, name)
    assert "--restart" not in phase(node, "certs", "renew", "apiserver", "etcd/server").output
    said = phase(node, "certs", "renew").output
    assert "kube-controller-manager, kube-scheduler, longshore-agent, longshore-proxy: read theirs when they" in said
