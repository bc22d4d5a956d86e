"""The identity of a static pod, and files that are no manifest at all."""

from __future__ import annotations

import json
import re

import pytest
from lightkube.models import core_v1

from agent.container_spec import labels
from agent.sources.defaults import image_tag
from agent.sources.manifest import parse_static_pod, seen
from kube_objects.encode import to_json
from kube_objects.manifest import ManifestError

WEB = b"""# a comment
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: main
    image: web:1
"""
PATH = "/etc/longshore/manifests/web.yaml"


def uid(data: bytes = WEB, path: str = PATH, node_name: str = "node1") -> str:
    pod = parse_static_pod(data, path, node_name)
    assert pod.metadata is not None
    assert pod.metadata.uid is not None
    return pod.metadata.uid


def test_uid_has_the_kubelets_form_and_is_the_config_hash() -> None:
    pod = parse_static_pod(WEB, PATH, "node1")
    assert pod.metadata is not None
    assert re.fullmatch("[0-9a-f]{32}", pod.metadata.uid or "")
    assert (pod.metadata.annotations or {})[labels.CONFIG_HASH] == pod.metadata.uid


def test_uid_is_a_promise_to_pods_that_run_already() -> None:
    """A change of this value replaces every static pod of every node at the next update of the agent."""
    assert uid() == "2f12752e6d7de3d4146fa20248987c40"


def test_the_same_object_has_the_same_uid() -> None:
    assert uid() == uid(WEB)
    assert uid() == uid(WEB.replace(b"# a comment\n", b""))
    assert uid() == uid(WEB.replace(b"image: web:1", b"image: web:1\n    imagePullPolicy: IfNotPresent"))


@pytest.mark.parametrize(
    "other",
    [
        uid(WEB.replace(b"web:1", b"web:2")),
        uid(WEB.replace(b"{name: web}", b"{name: web, labels: {a: b}}")),
        uid(path="/etc/longshore/manifests/other.yaml"),
        uid(node_name="node2"),
    ],
    ids=["content", "label", "path", "node"],
)
def test_content_path_and_node_make_another_uid(other: str) -> None:
    assert other != uid()


def test_when_it_was_seen_is_not_part_of_the_identity() -> None:
    pod = seen(parse_static_pod(WEB, PATH, "node1"), "2026-01-01T00:00:00Z")
    assert pod.metadata is not None
    assert (pod.metadata.annotations or {})[labels.CONFIG_SEEN] == "2026-01-01T00:00:00Z"
    assert pod.metadata.uid == uid()


def test_the_name_is_suffixed_with_the_node_in_lower_case() -> None:
    pod = parse_static_pod(WEB, PATH, "Node1.Example")
    assert pod.metadata is not None
    assert pod.metadata.name == "web-node1.example"


def test_json_is_the_same_as_yaml() -> None:
    text = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": [{"name": "main", "image": "web:1"}]},
    }
    path = PATH.replace("yaml", "json")
    assert to_json(parse_static_pod(json.dumps(text).encode(), path, "n")) == to_json(parse_static_pod(WEB, path, "n"))


def test_a_toleration_that_is_there_already_is_not_repeated() -> None:
    pod = parse_static_pod(WEB + b"  tolerations: [{operator: Exists, effect: NoExecute}]\n", PATH, "n")
    assert pod.spec is not None
    assert pod.spec.tolerations == [core_v1.Toleration(operator="Exists", effect="NoExecute")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x7fELF\x02\x01\x01\x00\x00\xff\xfe", "text"),
        (WEB + b"#" * (10 << 20), "larger"),
        (b"kind: Pod\n\x00", "text"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\n", "apiVersion"),
        (b"[" * 100_000, "YAML|nested"),
    ],
    ids=["empty", "binary", "10 MB", "nul", "aliases", "deep"],
)
def test_files_that_are_no_manifest(data: bytes, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_static_pod(data, PATH, "node1")
    assert caught.value.path == PATH
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("web", "latest"),
        ("web:1", "1"),
        ("host:5000/web", "latest"),
        ("host:5000/a/web:2", "2"),
        ("web@sha256:00", ""),
        ("web:latest@sha256:00", "latest"),
        ("", "latest"),
    ],
)
def test_image_tag(image: str, tag: str) -> None:
    assert image_tag(image) == tag
