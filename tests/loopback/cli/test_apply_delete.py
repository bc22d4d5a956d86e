from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.cli.conftest import POD, SERVICE, Node

SLICE = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.0.4]}]
"""


def write(node: Node, name: str, text: str) -> str:
    path = node.base / name
    path.write_text(text)
    return str(path)


def test_apply_creates_changes_and_leaves_alone(node: Node) -> None:
    result = node.run("apply", "-f", write(node, "p.yaml", POD), "-f", write(node, "s.yaml", SERVICE))
    pod, service = node.manifests / "web.yaml", node.services / "web.service.yaml"
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"pod/web created ({pod})\nservice/web created ({service})\n"
    assert (pod.read_text(), service.read_text()) == (POD, SERVICE)
    assert node.run("apply", "-f", "-", stdin=POD).stdout == f"pod/web unchanged ({pod})\n"
    changed = POD.replace("web:1", "web:2")
    assert node.run("apply", "-f", "-", stdin=changed).stdout == f"pod/web configured ({pod})\n"
    assert pod.read_text() == changed
    assert sorted(os.listdir(node.manifests)) == ["web.yaml"]


def test_apply_json_and_slices(node: Node) -> None:
    assert node.run("apply", "-f", "-", stdin=SLICE).exit_code == 0
    assert (node.services / "web.endpointslice.yaml").read_text() == SLICE


def test_apply_replaces_the_file_that_has_the_object(node: Node) -> None:
    (node.manifests / "10-frontend.yml").write_text(POD)
    (node.manifests / "broken.yaml").write_text("a: [")
    result = node.run("apply", "-f", "-", stdin=POD.replace("web:1", "web:2"))
    assert "configured" in result.stdout
    assert "web:2" in (node.manifests / "10-frontend.yml").read_text()
    assert sorted(os.listdir(node.manifests)) == ["10-frontend.yml", "broken.yaml"]


def test_apply_never_takes_another_objects_file(node: Node) -> None:
    (node.manifests / "web.yaml").write_text(POD.replace("name: web  #", "name: other  #"))
    assert node.run("apply", "-f", "-", stdin=POD).exit_code == 0
    assert "name: other" in (node.manifests / "web.yaml").read_text()
    assert (node.manifests / "web.1.yaml").read_text() == POD


def test_namespaces_do_not_clash(node: Node) -> None:
    prod = POD.replace("  name: web  #", "  namespace: prod\n  name: web  #")
    assert node.run("apply", "-f", "-", stdin=POD).exit_code == 0
    assert node.run("apply", "-f", "-", stdin=prod).exit_code == 0
    assert sorted(os.listdir(node.manifests)) == ["prod.web.yaml", "web.yaml"]


def test_objects_of_one_command_do_not_clash_either(node: Node) -> None:
    prod = write(node, "1.yaml", POD.replace("  name: web  #", "  namespace: prod\n  name: web  #"))
    twin = write(node, "2.yaml", POD.replace("name: web  #", "name: prod.web  #"))
    assert node.run("apply", "-f", prod, "-f", twin, "-f", twin).exit_code == 0
    assert sorted(os.listdir(node.manifests)) == ["prod.web.1.yaml", "prod.web.yaml"]
    assert "namespace: prod" in (node.manifests / "prod.web.yaml").read_text()


def test_apply_of_what_two_files_define_changes_neither(node: Node) -> None:
    for name in ("a.yaml", "b.yaml"):
        (node.manifests / name).write_text(POD)
    result = node.run("apply", "-f", "-", stdin=POD.replace("web:1", "web:2"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{node.manifests / 'a.yaml'} and {node.manifests / 'b.yaml'}" in result.stderr
    assert (node.manifests / "a.yaml").read_text() == (node.manifests / "b.yaml").read_text() == POD


def test_a_file_whose_name_is_no_text_can_be_deleted(node: Node) -> None:
    (node.manifests / os.fsdecode(b"\xff.yaml")).write_text(POD)
    result = node.run("delete", "pod/web")
    assert (result.exit_code, os.listdir(node.manifests)) == (0, [])
    assert r"\udcff.yaml" in result.stdout


def test_delete_of_what_two_files_define(node: Node) -> None:
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        (node.manifests / name).write_text(POD)
    result = node.run("delete", "pod/web")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "by its file name" in result.stderr
    assert node.run("delete", "c.yaml").exit_code == 0
    assert sorted(os.listdir(node.manifests)) == ["a.yaml", "b.yaml"]
    assert node.run("delete", "-f", "-", stdin=POD).exit_code == 0
    assert os.listdir(node.manifests) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (POD.replace("image: web", "imag: web"), "spec.containers[0].imag: unknown field, did you mean 'image'?"),
        (POD.replace("name: web  #", "name: Web_1  #"), "metadata.name: "),
        (POD.replace("kind: Pod", "kind: Deployment"), "kind: 'Deployment' cannot be used here"),
        (
            POD.replace("  name: web  # a comment that must survive\n", "  labels: {}\n"),
            "metadata.name: required field is missing",
        ),
        (POD + "---\n" + POD, "holds 2 documents"),
        ("", "file is empty"),
        ("a: [", "not valid YAML"),
        (SERVICE.replace("port: 80", "port: 0"), "spec.ports[0].port: "),
        (SERVICE.replace("clusterIP", "clusterIp"), "spec.clusterIp: unknown field, did you mean 'clusterIP'?"),
        (SLICE.replace("10.1.0.4", "127.0.0.1"), "endpoints[0].addresses[0]: "),
        ("x" * (10 << 20), "larger than 1048576 bytes"),
    ],
)
def test_a_bad_manifest_is_never_written(node: Node, text: str, words: str) -> None:
    good = write(node, "good.yaml", POD)
    result = node.run("apply", "-f", good, "-f", "-", stdin=text)
    assert (result.exit_code, result.stdout) == (65, ""), result.output
    assert result.stderr.startswith("longshore: cannot read standard input")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert os.listdir(node.manifests) == os.listdir(node.services) == []


def test_binary_input(node: Node) -> None:
    result = node.run("apply", "-f", "-", stdin=b"\x7fELF\x00\xff")
    assert result.exit_code == 65
    assert "not UTF-8 text" in result.stderr


def test_apply_without_the_directory(node: Node) -> None:
    node.manifests.rmdir()
    result = node.run("apply", "-f", "-", stdin=POD)
    assert result.exit_code == 1
    assert f"create it (mkdir -p {node.manifests})" in result.stderr


def test_apply_a_file_that_is_not_there(node: Node) -> None:
    assert node.run("apply", "-f", str(node.base / "none.yaml")).exit_code == 2


def test_the_directories_come_from_the_daemons(live: Node) -> None:
    live.options = ()
    live.agent = {"/v1/status": {"nodeName": "n1", "staticPodPath": str(live.manifests)}}
    live.proxy = {"/v1/status": {"manifestDir": str(live.services)}}
    assert live.run("apply", "-f", "-", stdin=POD).exit_code == 0
    assert live.run("apply", "-f", "-", stdin=SERVICE).exit_code == 0
    assert (os.listdir(live.manifests), os.listdir(live.services)) == (["web.yaml"], ["web.service.yaml"])


@pytest.fixture
def filled(node: Node) -> Node:
    (node.manifests / "10-frontend.yaml").write_text(POD)
    (node.manifests / "api.yaml").write_text(POD.replace("name: web  #", "name: api  #"))
    (node.manifests / "broken.yaml").write_text("a: [")
    (node.services / "web.yml").write_text(SERVICE)
    return node


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["api"], "api.yaml"),
        (["pod/web"], "10-frontend.yaml"),
        (["po/web"], "10-frontend.yaml"),
        (["service/web"], "web.yml"),
        (["svc/web", "-n", "default"], "web.yml"),
        (["broken.yaml"], "broken.yaml"),
        (["10-frontend.yaml"], "10-frontend.yaml"),
    ],
)
def test_delete(filled: Node, arguments: list[str], gone: str) -> None:
    before = everything(filled)
    result = filled.run("delete", *arguments)
    assert result.exit_code == 0, result.output
    assert before - everything(filled) == {gone}
    assert "deleted" in result.stdout


def test_delete_by_the_name_that_pods_shows(live: Node) -> None:
    live.agent = {"/v1/status": {"nodeName": "n1"}}
    (live.manifests / "a.yaml").write_text(POD)
    assert live.run("delete", "web-n1").exit_code == 0
    assert os.listdir(live.manifests) == []


def test_delete_by_file(filled: Node) -> None:
    assert filled.run("delete", "-f", "-", stdin=POD).exit_code == 0
    assert not (filled.manifests / "10-frontend.yaml").exists()
    assert filled.run("delete", "-f", "-", stdin=POD).exit_code == 3
    assert filled.run("delete", "-f", "-", stdin="a: [").exit_code == 65


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nope"], 3, "cannot find a manifest of 'nope'"),
        (["api", "-n", "prod"], 3, "cannot find a manifest of 'api' in namespace prod"),
        (["web"], 2, "'web' may mean: pod/web -n default"),
        (["deployment/web"], 2, "'deployment' is no kind"),
        (["api", "nope"], 3, "cannot find"),
    ],
)
def test_deletes_that_are_refused_delete_nothing(filled: Node, arguments: list[str], code: int, words: str) -> None:
    before = everything(filled)
    result = filled.run("delete", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert everything(filled) == before


def everything(node: Node) -> set[str]:
    return {path.name for folder in (node.manifests, node.services) for path in Path(folder).iterdir()}


def test_apply_never_writes_over_what_it_cannot_read_and_never_through_a_link(node: Node) -> None:
    (node.manifests / "web.yaml").write_text("kind: Deployment")
    assert node.run("apply", "-f", "-", stdin=POD).exit_code == 0
    assert (node.manifests / "web.yaml").read_text() == "kind: Deployment"
    assert (node.manifests / "web.1.yaml").read_text() == POD
    real = node.base / "managed.yaml"
    (node.manifests / "web.1.yaml").rename(real)
    (node.manifests / "linked.yaml").symlink_to(real)
    result = node.run("apply", "-f", "-", stdin=POD.replace("web:1", "web:2"))
    assert result.exit_code == 1
    assert "is a symbolic link" in result.stderr
    assert real.read_text() == POD


def test_a_pod_that_runs_on_from_a_file_that_broke_is_deleted_by_its_name(live: Node) -> None:
    live.manifests.mkdir(exist_ok=True)
    broken = live.manifests / "10-web.yaml"
    broken.write_text("a: [")
    pod = {"metadata": {"name": "web-n1", "namespace": "default", "uid": "u1"}, "spec": {}}
    live.agent = {
        "/v1/status": {"nodeName": "n1", "staticPodPath": str(live.manifests)},
        "/v1/pods": {"pods": [{"pod": pod, "source": str(broken), "waiting": []}], "errors": []},
    }
    live.options = (f"--manifest-dir={live.manifests}", f"--service-dir={live.services}")
    result = live.run("delete", "pod/web")
    assert (result.exit_code, broken.exists()) == (0, False), result.stderr


def test_config_maps_and_secrets_lie_beside_the_pods(node: Node) -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: b}\n"
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {a: canary}\n"
    for text in (config, secret):
        assert node.run("apply", "-f", "-", stdin=text).exit_code == 0, text
    placed = node.manifests / "web.secret.yaml"
    assert placed.read_text() == secret
    assert placed.stat().st_mode & 0o777 == 0o600
    refused = node.run("apply", "-f", "-", stdin=secret.replace("{a: canary}", "canary"))
    assert refused.exit_code == 65
    assert "canary" not in refused.output
    assert node.run("delete", "cm/web").exit_code == 0
    assert [path.name for path in node.manifests.iterdir()] == ["web.secret.yaml"]
