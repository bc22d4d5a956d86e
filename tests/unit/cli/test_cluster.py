"""`longshore control-plane`, and what `up` and `down` find in their way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import Result

from cli.bring_up import write_network
from cli.cluster import Cluster, open_cluster
from cli.failure import Failure
from cli.preflight_cluster import file_obstacles, port_obstacles
from cli.target import Target
from control_plane.network import FILE_NAME, LEASES, bridge_conflist
from control_plane.removal import remove_all
from control_plane.settings import PORTS
from tests.unit.cli.conftest import Node


def options(node: Node) -> list[str]:
    return [
        f"--kubernetes-dir={node.base / 'kubernetes'}", f"--etcd-dir={node.base / 'etcd'}", "--node-name=node-1",
        "--advertise-address=192.0.2.10",
    ]  # fmt: skip


def phase(node: Node, *arguments: str) -> Result:
    return node.run("control-plane", *options(node), *arguments)


def opened(node: Node) -> Cluster:
    target = Target(
        root_dir=node.base, agent_socket=node.base / "a", proxy_socket=node.base / "p", manifest_dir=node.manifests
    )
    return open_cluster(target, {"kubernetes_dir": node.base / "kubernetes"})


def test_the_phases_one_by_one(node: Node) -> None:
    assert phase(node, "kubeconfigs").exit_code == 1
    for name, made in (("certs", 22), ("kubeconfigs", 5), ("manifests", 4)):
        first = phase(node, name)
        assert (first.exit_code, first.output.count("made ")) == (0, made), first.output
        again = phase(node, name)
        assert (again.exit_code, again.output.count("made ")) == (0, 0), again.output
    shown = phase(node, "certs", "show", "-o", "json")
    assert shown.exit_code == 0
    assert {one["problem"] for one in json.loads(shown.output)} == {""}


def test_settings_are_remembered(node: Node) -> None:
    assert phase(node, "--pod-cidr=10.50.0.0/16", "certs").exit_code == 0
    settings = opened(node).settings
    assert (settings.pod_cidr, settings.node_name) == ("10.50.0.0/16", "node-1")
    wrong = node.run("control-plane", f"--kubernetes-dir={node.base / 'kubernetes'}", "--pod-cidr=10", "manifests")
    assert (wrong.exit_code, wrong.output.startswith("Error") or "--pod-cidr" in wrong.output) == (1, True)
    assert opened(node).settings.pod_cidr == "10.50.0.0/16"


def test_a_record_that_is_not_ours(node: Node) -> None:
    (node.base / "kubernetes").mkdir()
    (node.base / "kubernetes" / "longshore.json").write_text('{"made": []}')
    found = phase(node, "certs")
    assert found.exit_code == 1
    assert "longshore.json: it is not what longshore writes" in found.output


def test_renew_knows_its_names(node: Node) -> None:
    phase(node, "certs")
    phase(node, "kubeconfigs")
    some = phase(node, "certs", "renew", "apiserver", "admin.conf")
    assert sorted(line.rpartition("/")[2] for line in some.output.splitlines()) == ["admin.conf", "apiserver.crt"]
    unknown = phase(node, "certs", "renew", "apiservr")
    assert (unknown.exit_code, "there is no such certificate" in unknown.output) == (3, True)


def test_an_expired_certificate_is_shown(node: Node) -> None:
    phase(node, "certs")
    path = node.base / "kubernetes/pki/apiserver.crt"
    path.write_text("half")
    shown = phase(node, "certs", "show")
    assert shown.exit_code == 1
    assert "certs renew apiserver" in shown.output


def test_up_needs_root_and_free_ports(node: Node) -> None:
    if os.geteuid() == 0:
        pytest.skip("is root")
    found = node.run("up", "--control-plane", *options(node))
    assert found.exit_code == 1
    assert "user: not root" in found.output
    assert not (node.base / "kubernetes").exists()


def test_up_says_what_it_can(node: Node) -> None:
    assert node.run("up").exit_code == 2


def test_ports_in_use_are_named_with_their_holder() -> None:
    holders = {6443: (12, "/usr/bin/nginx -g"), 2379: (13, "etcd --name=x"), 10257: (0, ""), 80: (1, "httpd")}
    found = list(port_obstacles(holders, runs_ours=False))
    assert found[0] == "port 6443 of kube-apiserver: in use by process 12 (/usr/bin/nginx -g); stop that program"
    assert len(found) == 3
    assert list(port_obstacles(holders, runs_ours=True)) == found[:1]
    assert list(port_obstacles(dict.fromkeys((8080, 443), (1, "x")), runs_ours=False)) == []
    assert {6443, 2379, 2380, 10257, 10259} <= PORTS.keys()


def test_files_of_another_control_plane(node: Node) -> None:
    places = opened_with_phases(node).places
    made = opened(node).files.record.made
    assert list(file_obstacles(places, made)) == []
    found = list(file_obstacles(places, {}))
    assert len(found) == 4
    places.etcd_data.mkdir()
    assert "holds the data of another etcd" in list(file_obstacles(places, {}))[-1]


def opened_with_phases(node: Node) -> Cluster:
    for name in ("certs", "kubeconfigs", "manifests"):
        assert phase(node, name).exit_code == 0
    return opened(node)


def test_all_that_was_made_goes_and_nothing_else(node: Node) -> None:
    cluster = opened_with_phases(node)
    (cluster.places.etcd_data / "wal").mkdir(parents=True)
    theirs = [
        node.manifests / "web.yaml",
        node.base / "kubernetes" / "notes",
        node.base / "kubernetes" / "pki" / "mine.crt",
    ]
    for path in theirs:
        path.write_text("theirs")
    remove_all(cluster.files.record, frozenset({cluster.places.etcd_data}))
    assert sorted(path for path in node.base.rglob("*") if path.is_file()) == sorted(theirs)
    assert not cluster.places.etcd_dir.exists()
    assert not opened(node).files.record.made


def test_nothing_is_left_where_nothing_was(node: Node) -> None:
    cluster = opened_with_phases(node)
    assert remove_all(cluster.files.record, frozenset({cluster.places.etcd_data}))
    assert sorted(node.base.rglob("*")) == [node.manifests, node.services]


def test_down_without_anything(node: Node) -> None:
    found = node.run("down", f"--kubernetes-dir={node.base / 'kubernetes'}", "--yes")
    assert (found.exit_code, "nothing to take away" in found.output) == (0, True)


def test_down_asks(node: Node) -> None:
    opened_with_phases(node)
    before = sorted(node.base.rglob("*"))
    found = node.run("down", f"--kubernetes-dir={node.base / 'kubernetes'}", stdin="n\n")
    assert found.exit_code == 1
    assert sorted(node.base.rglob("*")) == before


def test_the_pod_network() -> None:
    plain = json.loads(bridge_conflist(["10.244.0.0/24"], host_ports=False))
    assert [one["type"] for one in plain["plugins"]] == ["bridge"]
    both = json.loads(bridge_conflist(["10.244.0.0/24", "fd00:2::/64"], host_ports=True))
    assert [one["type"] for one in both["plugins"]] == ["bridge", "portmap"]
    ipam = both["plugins"][0]["ipam"]
    assert ipam["ranges"] == [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:2::/64"}]]
    assert [route["dst"] for route in ipam["routes"]] == ["0.0.0.0/0", "::/0"]


def test_a_network_that_is_there_stays(node: Node, tmp_path: Path) -> None:
    cluster = opened_with_phases(node)
    place = tmp_path / "net.d"
    place.mkdir()
    (place / "05-cilium.conflist").write_text("{}")
    assert write_network(cluster, place, ["10.244.0.0/24"]) is None
    (place / "05-cilium.conflist").rename(place / FILE_NAME)  # by the name of ours, but not by us
    assert write_network(cluster, place, ["10.244.0.0/24"]) is None
    (place / FILE_NAME).unlink()
    try:
        made = write_network(cluster, place, ["10.244.0.0/24"])
    except Failure as failure:
        assert "the CNI plugin" in str(failure)  # noqa: PT017 # a machine without them
        return
    assert made == place / FILE_NAME
    assert write_network(cluster, place, ["10.244.0.0/24"]) is None
    assert write_network(cluster, place, ["10.244.1.0/24"]) == made
    assert LEASES in cluster.files.record.made
