"""RuntimeClasses among the local objects: read, given to pods, missed."""

from __future__ import annotations

import pytest
from lightkube.models import core_v1

from agent.container_spec.references import config_references
from agent.sources.manifest import parse_manifest
from agent.sources.runtime_class import handler_of, with_runtime_class
from kube_objects.config_data import RUNTIME_CLASS, ConfigData, ConfigObjects
from kube_objects.manifest import ManifestError

CLASS = """
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: gvisor}
handler: runsc
overhead: {podFixed: {memory: 100Mi, cpu: 50m}}
scheduling: {nodeSelector: {disk: ssd}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  nodeSelector: {{zone: a}}
  {name}
  containers: [{{name: main, image: "web:1"}}]
"""


def pod(name: str = "runtimeClassName: gvisor") -> core_v1.Pod:
    found = parse_manifest(POD.format(name=name).encode(), "/m/web.yaml", "n")
    assert isinstance(found, core_v1.Pod)
    return found


def read(text: str = CLASS) -> ConfigData:
    found = parse_manifest(text.encode(), "/m/class.yaml", "n")
    assert isinstance(found, ConfigData)
    return found


def test_a_class_gives_handler_overhead_and_node_selector() -> None:
    objects = ConfigObjects([read()])
    assert read().key == (RUNTIME_CLASS, "", "gvisor")
    assert handler_of(pod(), objects) == "runsc"
    given = with_runtime_class(pod(), objects).spec
    assert given is not None
    assert given.overhead == {"memory": "100Mi", "cpu": "50m"}
    assert given.nodeSelector == {"zone": "a", "disk": "ssd"}
    assert config_references(pod()) == {(RUNTIME_CLASS, "", "gvisor")}


def test_without_a_class_the_default_handler_and_an_absent_one_none() -> None:
    plain = pod("hostname: x")
    assert handler_of(plain, ConfigObjects()) == ""
    assert with_runtime_class(plain, ConfigObjects([read()])) is plain
    assert handler_of(pod(), ConfigObjects()) is None


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("handler: runsc", "handler: 'a/b'", "handler"),
        ("{name: gvisor}", "{name: gvisor, namespace: x}", "metadata.namespace"),
        ("100Mi", "-1", "overhead.podFixed.memory"),
        ("handler: runsc", "handlers: runsc", "handlers"),
        ("handler: runsc\n", "", "handler"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, field: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(CLASS.replace(old, new))
    assert caught.value.field == field
