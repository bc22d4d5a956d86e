"""`longshore control-plane`, and what `up` and `down` find in their way."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import Result

from agent.config import load_config as load_agent_config
from cli import bring_up
from cli.bring_up import write_network
from cli.cluster import Cluster, open_cluster
from cli.failure import NOT_FOUND, UNREACHABLE, Failure
from cli.preflight_cluster import daemon_port_obstacles, file_obstacles, obstacles, port_obstacles
from cli.target import Target
from cli.units import DAEMONS, command_lines, drop_ins, proxy_config
from control_plane.network import FILE_NAME, LEASES, bridge_conflist
from control_plane.removal import remove_all
from control_plane.settings import PORTS
from proxy.config import load_config as load_proxy_config
from tests.unit.cli.conftest import Node


def options(node: Node) -> list[str]:
    return [
        f"--kubernetes-dir={node.base / 'kubernetes'}", f"--etcd-dir={node.base / 'etcd'}", "--node-name=node-1",
        "--advertise-address=192.0.2.10",
    ]  # fmt: skip


def phase(node: Node, *arguments: str) -> Result:
    return node.run("control-plane", *options(node), *arguments)


def a_target(node: Node) -> Target:
    return Target(
        root_dir=node.base, agent_socket=node.base / "a", proxy_socket=node.base / "p", manifest_dir=node.manifests
    )


def opened(node: Node) -> Cluster:
    return open_cluster(a_target(node), {"kubernetes_dir": node.base / "kubernetes"})


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


def test_up_needs_root(node: Node) -> None:
    phase(node, "certs")
    assert "user: not root; run it with sudo" in list(obstacles(opened(node), node.base, 1000))
    assert not [line for line in obstacles(opened(node), node.base, 0) if line.startswith("user:")]


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


def test_the_daemons_ports_as_they_are_configured() -> None:
    holders = {10250: (12, "kubelet --config=x"), 10256: (13, "python3 /usr/bin/longshore-proxy"), 10999: (14, "other")}
    found = list(daemon_port_obstacles(holders, {}, {}))
    says = "in use by process 12 (kubelet --config=x); stop that program, or choose another port"
    assert found == [f"port 10250 of longshore-agent: {says}"]
    assert list(daemon_port_obstacles(holders, {"port": 0}, {})) == []
    (line,) = daemon_port_obstacles(holders, {"port": 10999}, {})
    assert "10999" in line


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


def test_an_api_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bring_up, "_EVERY_S", 0.0)
    phase(node, "manifests")
    watcher = bring_up.Watcher(opened(node), a_target(node), time.monotonic() + 60)
    answers = [Failure("no answer in time", UNREACHABLE), Failure("no answer in time", UNREACHABLE), None]

    def action() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    watcher.accepted(action, "roles")
    assert answers == []
    answers.append(Failure("not found", NOT_FOUND))
    with pytest.raises(Failure, match="not found"):
        watcher.accepted(action, "roles")


def test_in_an_upgrade_the_old_api_server_is_not_the_one_that_is_waited_for(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phase(node, "--kubernetes-version=v1.36.3", "certs").exit_code == 0
    assert phase(node, "kubeconfigs").exit_code == 0
    releases = ["v1.35.9", "v1.35.9", "v1.36.3-vendor"]

    def look(_: object, path: str) -> bytes:
        return b"ok" if path == "/readyz" else json.dumps({"gitVersion": releases.pop(0)}).encode()

    monkeypatch.setattr("cli.api.look", look)
    monkeypatch.setattr(bring_up, "_EVERY_S", 0.0)
    bring_up.Watcher(opened(node), a_target(node), time.monotonic() + 60).api_server()
    assert releases == []
    said = ["waiting for the API server: it is still v1.35.9, not v1.36.3", "the API server is ready"]
    assert capsys.readouterr().out.splitlines() == said


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
        pytest.skip("needs the CNI plugins: apt-get install containernetworking-plugins")
    assert made == place / FILE_NAME
    assert write_network(cluster, place, ["10.244.0.0/24"]) is None
    assert write_network(cluster, place, ["10.244.1.0/24"]) == made
    assert LEASES in cluster.files.record.made
    cluster.files.record.forget(LEASES)  # as after a crash of an earlier release between the two
    assert write_network(cluster, place, ["10.244.1.0/24"]) is None
    assert LEASES in cluster.files.record.trees


def test_what_the_daemons_are_started_with(node: Node, tmp_path: Path) -> None:
    cluster = opened_with_phases(node)
    alone = {"mode": "nftables", "clientConnection": {"qps": 7}}
    content = proxy_config(alone, cluster.places, "node-1")
    path = tmp_path / "proxy.yaml"
    path.write_bytes(content.data)
    config = load_proxy_config([f"--config={path}"])
    assert config.api.kubeconfig == cluster.places.kubeconfig("proxy")
    assert (str(config.mode), config.api.qps) == ("nftables", 7)
    commands = command_lines(cluster.places, tmp_path, "node-1", "192.0.2.7,2001:db8::7")
    (tmp_path / "agent.yaml").write_text("kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\n")
    agent = load_agent_config(commands["longshore-agent"][1:])
    assert (agent.node_name, agent.cluster.kubeconfig) == ("node-1", cluster.places.kubeconfig("kubelet"))
    assert agent.node_ip == "192.0.2.7,2001:db8::7"
    wrong = node.run("control-plane", f"--kubernetes-dir={tmp_path}", "--node-ip=192.0.2.7,nine", "certs")
    assert "--node-ip: 'nine' is not an IP address" in wrong.stderr


@pytest.mark.parametrize("unit", DAEMONS)
def test_systemd_finds_nothing_to_say_of_the_drop_ins(node: Node, tmp_path: Path, unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    commands = {
        name: ["/bin/true", *words[1:]] for name, words in command_lines(opened(node).places, tmp_path, "n").items()
    }
    for path, content in drop_ins(tmp_path, commands).items():
        path.parent.mkdir()
        path.write_bytes(content.data)
    text = (Path(__file__).parents[3] / "systemd" / f"{unit}.service").read_text()
    (tmp_path / f"{unit}.service").write_text(text)
    argv = ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(tmp_path / f"{unit}.service")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
