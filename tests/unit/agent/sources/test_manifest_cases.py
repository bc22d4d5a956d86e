"""Each file of tests/cases/manifests says in its own comments what must become of it."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lightkube.models import core_v1

from agent.container_spec.container import container_config
from agent.container_spec.facts import ImageUser, NodeFacts, SpecError, SpecFacts
from agent.container_spec.sandbox import sandbox_config
from agent.sources.manifest import parse_static_pod
from agent.volumes.payload import PayloadError, volume_payload
from kube_objects.config_data import ConfigData, ConfigObjects
from kube_objects.encode import to_json
from kube_objects.manifest import ManifestError

CASES = Path(__file__).parents[3] / "cases" / "manifests"
EXPECTATION = re.compile(r"# expect (error|spec error|pod|sandbox|(?:container|volume) [a-z]+): (.*)")
GIVEN = re.compile(r"# given (configmap|secret) ([a-z-]+): (.*)")
STEP = re.compile(r'\["([^"]+)"\]|\[(\d+)\]|\.?([A-Za-z_]+)')

FACTS = SpecFacts(
    node=NodeFacts(
        node_name="node1",
        node_ips=("192.168.0.5",),
        memory_bytes=1 << 30,
        cpu_milli=2000,
        resolv_conf="nameserver 1.1.1.1\nsearch example.org\n",
    ),
    cgroup_parent="/kubepods/burstable/pod1",
    pod_ips=("10.1.0.2",),
    cluster_dns=("10.96.0.10",),
    cluster_domain="cluster.local",
)

VOLUMES = {"data": "/volumes/data"}


def plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def look_up(value: Any, path: str) -> Any:
    for key, index, name in STEP.findall(path):
        value = value[int(index)] if index else value[key or name]
    return value


def objects_of(text: str) -> ConfigObjects:
    """The ConfigMaps and Secrets that a case says there are, in the namespace default."""
    return ConfigObjects(
        ConfigData(resource, "default", name, {key: value.encode() for key, value in json.loads(data).items()})
        for resource, name, data in GIVEN.findall(text)
    )


def files_of(pod: core_v1.Pod, volume: core_v1.Volume, facts: SpecFacts) -> Any:
    """Path -> text and mode of what is in a volume, or why it cannot be filled."""
    try:
        files = volume_payload(pod, volume, facts) or {}
    except PayloadError as error:
        return {"error": str(error)}
    return {path: f"{one.mode:04o} {one.data.decode()}" for path, one in files.items()} | {"count": len(files)}


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda path: path.stem)
def test_case(case: Path) -> None:
    data = case.read_bytes()
    expectations = EXPECTATION.findall(data.decode())
    assert expectations, "the case expects nothing"
    path = f"/etc/longshore/manifests/{case.name}"
    if expectations[0][0] == "error":
        with pytest.raises(ManifestError) as caught:
            parse_static_pod(data, path, "node1")
        error = caught.value
        assert f"{error.line or 0}: {error.field}: {error.message}".startswith(expectations[0][1])
        assert str(error).startswith(f"cannot read {path}")
        assert "\n" not in str(error)
        return
    pod = parse_static_pod(data, path, "node1")
    assert pod.spec is not None
    assert pod.metadata is not None
    assert pod.metadata.uid is not None
    facts = dataclasses.replace(FACTS, objects=objects_of(data.decode()))
    if expectations[0][0] == "spec error":
        with pytest.raises(SpecError) as refused:
            container_config(pod, pod.spec.containers[0], 3, facts, VOLUMES, image_user=ImageUser(uid=0))
        assert str(refused.value) == expectations[0][1]
        assert refused.value.reason == "CreateContainerConfigError"
        return
    made = {"pod": to_json(pod), "sandbox": plain(sandbox_config(pod, 0, FACTS))}
    volumes = {volume.name: f"/volumes/{volume.name}" for volume in pod.spec.volumes or []}
    images = {volume.name: f"ref of {volume.name}" for volume in pod.spec.volumes or [] if volume.image is not None}
    facts = dataclasses.replace(facts, volume_images=images)
    for container in pod.spec.containers:
        config = container_config(pod, container, 3, facts, volumes, image_user=ImageUser(uid=0))
        made[f"container {container.name}"] = plain(config)
    for volume in pod.spec.volumes or []:
        made[f"volume {volume.name}"] = files_of(pod, volume, facts)
    for thing, text in expectations:
        where, _, expected = text.partition(" = ")
        assert look_up(made[thing], where) == json.loads(expected.replace("$UID", pod.metadata.uid)), text
