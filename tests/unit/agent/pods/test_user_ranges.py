"""Ranges of user ids: no two pods the same, over restarts, and never again what cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agent.container_spec.container import container_config
from agent.container_spec.facts import NodeFacts, SpecError, SpecFacts
from agent.container_spec.sandbox import sandbox_config
from agent.pods.user_ranges import LENGTH, UserRanges
from agent.sources.manifest import parse_static_pod
from cri_client.types import IDMapping, NamespaceMode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a node where one pod has its directory already."""
    (tmp_path / "pods" / "a").mkdir(parents=True)
    return tmp_path


def test_each_pod_has_its_own_and_keeps_it(root: Path) -> None:
    ranges = UserRanges(str(root))
    assert [ranges.claim(uid, 2) for uid in ("a", "b", "a")] == [LENGTH, 2 * LENGTH, LENGTH]
    assert UserRanges(str(root)).claim("b", 2) == 2 * LENGTH
    with pytest.raises(SpecError, match="all 2 are taken"):
        ranges.claim("c", 2)
    shutil.rmtree(root / "pods" / "a")
    assert ranges.claim("c", 2) == LENGTH
    assert ranges.holds("b")
    ranges.release("b")
    ranges.release("b")
    assert not ranges.holds("b")
    assert ranges.claim("d", 2) == 2 * LENGTH


def test_the_file_is_the_kubelets(root: Path) -> None:
    UserRanges(str(root)).claim("a", 5)
    mapping = {"hostId": 65536, "containerId": 0, "length": 65536}
    assert json.loads((root / "pods/a/userns").read_text()) == {"uidMappings": [mapping], "gidMappings": [mapping]}


@pytest.mark.parametrize("text", ["", "{}", '{"uidMappings": [], "gidMappings": []}'])
def test_one_that_cannot_be_read_is_nobodys(root: Path, text: str) -> None:
    (root / "pods/a/userns").write_text(text)
    with pytest.raises(SpecError, match=r"cannot .* the range of user ids in .*pods/a/userns"):
        UserRanges(str(root)).claim("b", 5)


POD = b"""
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  hostUsers: false
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: main
    image: web:1
    volumeMounts: [{name: data, mountPath: /data}]
    securityContext: {procMount: Unmasked}
"""


def test_the_runtime_is_told_the_range_for_processes_and_volumes() -> None:
    pod = parse_static_pod(POD, "/m/web.yaml", "n")
    facts = SpecFacts(node=NodeFacts(node_name="n"), user_range=LENGTH)
    assert pod.spec is not None
    sandbox = sandbox_config(pod, 0, facts).linux
    container = container_config(pod, pod.spec.containers[0], 0, facts, {"data": "/v/data"})
    assert sandbox is not None
    assert container.linux is not None
    mapping = (IDMapping(host_id=LENGTH, container_id=0, length=LENGTH),)
    for context in (sandbox.security_context, container.linux.security_context):
        assert context is not None
        assert context.namespace_options is not None
        users = context.namespace_options.userns_options
        assert users is not None
        assert (users.mode, users.uids, users.gids) == (NamespaceMode.POD, mapping, mapping)
    assert container.linux.security_context is not None
    assert container.linux.security_context.masked_paths == ()
    data = next(one for one in container.mounts if one.container_path == "/data")
    assert (data.uidMappings, data.gidMappings) == (mapping, mapping)
