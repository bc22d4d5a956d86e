"""The load balancer's files; that it balances is tests/cluster/test_ha.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from cli.manifests import identify, validate
from control_plane.haproxy import IMAGE, haproxy_config, haproxy_pod
from control_plane.manifest_files import render_manifest
from lab.haproxy import haproxy_program
from lab.machine import LabError
from tests.unit.cli.conftest import Node

SERVERS = ("https://192.0.2.1:6443", "https://[2001:db8::2]:6443")


def run(node: Node, *arguments: str) -> tuple[int, str]:
    kubernetes = f"--kubernetes-dir={node.base / 'kubernetes'}"
    more = ("--node-name=node-1", "--advertise-address=192.0.2.10")
    found = node.run("control-plane", kubernetes, *more, "load-balancer", *arguments)
    return found.exit_code, found.output


def test_haproxy_accepts_its_configuration(tmp_path: Path) -> None:
    try:
        program = haproxy_program()
    except LabError as error:
        pytest.skip(str(error))
    file = tmp_path / "haproxy.cfg"
    for bind in ("127.0.0.1:7443", "[::1]:7443", "0.0.0.0:8443"):
        file.write_bytes(haproxy_config(bind, SERVERS))
        done = subprocess.run([program, "-c", "-f", str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr.upper(), done.stderr


def test_the_agent_accepts_the_pod_and_another_configuration_makes_another() -> None:
    pods = []
    for bind, host in (("127.0.0.1:7443", "127.0.0.1"), ("[::]:8443", "::1")):
        pod = haproxy_pod(bind, IMAGE, Path("/etc/kubernetes/haproxy/haproxy.cfg"), haproxy_config(bind, SERVERS))
        data = render_manifest(pod)
        validate(data, identify(data, "haproxy"), Path("haproxy.yaml"), "haproxy", "node-1")
        assert pod["spec"]["containers"][0]["readinessProbe"]["tcpSocket"]["host"] == host
        pods.append(pod["metadata"]["annotations"])
    assert pods[0] != pods[1]


def test_the_command_writes_both_and_again_what_has_changed(node: Node) -> None:
    status, output = run(node, *SERVERS)
    assert (status, output.count("made ")) == (0, 2), output
    assert "server apiserver-2 [2001:db8::2]:6443\n" in (node.base / "kubernetes/haproxy/haproxy.cfg").read_text()
    assert run(node, *SERVERS) == (0, "")
    status, output = run(node, SERVERS[0])
    assert (status, output.count("made ")) == (0, 2), output
    image = yaml.safe_load((node.manifests / "haproxy.yaml").read_text())["spec"]["containers"][0]["image"]
    assert image == IMAGE


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://192.0.2.1:8080",), "it is not https"),
        (("192.0.2.1",), "is not a URL"),
        ((SERVERS[0], "--bind=7443"), "it is not ADDRESS:PORT"),
        ((SERVERS[0], "--bind=localhost:7443"), "it is not ADDRESS:PORT"),
        ((SERVERS[0], "--bind=::1:7443"), "it is not ADDRESS:PORT"),
        ((SERVERS[0], "--bind=127.0.0.1:0"), "it is not ADDRESS:PORT"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(node: Node, arguments: tuple[str, ...], said: str) -> None:
    status, output = run(node, *arguments)
    assert (status, said in output) == (1, True), output
    assert not list(node.manifests.iterdir())


def test_a_load_balancer_of_somebody_else_is_left_alone(node: Node) -> None:
    (node.manifests / "haproxy.yaml").write_text("theirs")
    status, output = run(node, *SERVERS)
    assert (status, "longshore has not made it" in output) == (1, True), output
    assert not (node.base / "kubernetes" / "haproxy").exists()
