from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from lightkube.models import core_v1, meta_v1

from daemonkit.strict import FieldError, decode, field_path, suggest
from daemonkit.yaml_text import parse_documents


def read(text: str, kind: type[Any]) -> Any:
    (document,) = parse_documents(text.encode())
    return decode(document, kind)


POD = """apiVersion: v1
kind: Pod
metadata:
  name: web
  creationTimestamp: null
  labels: {app: web}
spec:
  nodeSelector: null
  containers:
  - name: web
    image: web:1
    ports:
    - containerPort: 80
    resources:
      limits: {cpu: 1, memory: 64Mi}
      requests: {cpu: 0.5}
    livenessProbe:
      httpGet: {port: http}
    readinessProbe:
      tcpSocket: {port: 80}
  volumes:
  - name: scratch
    emptyDir: {sizeLimit: 100}
"""


def test_an_api_object_is_decoded() -> None:
    pod = read(POD, core_v1.Pod)
    container = pod.spec.containers[0]
    assert (pod.metadata.name, pod.metadata.labels, pod.spec.nodeSelector) == ("web", {"app": "web"}, None)
    assert container.resources.limits == {"cpu": "1", "memory": "64Mi"}
    assert container.resources.requests == {"cpu": "0.5"}
    assert (container.livenessProbe.httpGet.port, container.readinessProbe.tcpSocket.port) == ("http", 80)
    assert pod.spec.volumes[0].emptyDir.sizeLimit == "100"


@pytest.mark.parametrize(
    ("old", "new", "field", "line", "message"),
    [
        ("image: web", "imag: web", "spec.containers[0].imag", 11, "unknown field, did you mean 'image'?"),
        ("Probe:\n      httpGet", "Probe:\n      httpget", "spec.containers[0].livenessProbe.httpget", 18,
         "unknown field, did you mean 'httpGet'?"),
        ("spec:\n", "sepc: {}\nspec:\n", "sepc", 7, "unknown field, did you mean 'spec'?"),
        ("spec:\n", "qqq: {}\nspec:\n", "qqq", 7, "unknown field"),
        ("containerPort: 80", 'containerPort: "80"', "spec.containers[0].ports[0].containerPort", 13,
         'must be an integer, not the string "80"'),
        ("containerPort: 80", "containerPort: 80.5", "spec.containers[0].ports[0].containerPort", 13,
         "must be an integer, not a number (80.5)"),
        ("port: http", "port: [1]", "spec.containers[0].livenessProbe.httpGet.port", 18,
         "must be an integer or a string, not a list"),
        ("image: web:1", "image: 5", "spec.containers[0].image", 11, "must be a string, not an integer (5)"),
        ("{app: web}", "{app: 1}", "metadata.labels.app", 6,
         "must be a string (write it in quotes), not an integer (1)"),
        ("{app: web}", "{a/b.c: yes}", "metadata.labels[a/b.c]", 6,
         "must be a string (write it in quotes), not a boolean (true)"),
        ("{app: web}", "[app]", "metadata.labels", 6, "must be a mapping, not a list"),
        ("memory: 64Mi", "memory: [1]", "spec.containers[0].resources.limits.memory", 15,
         "must be a quantity such as 100m or 64Mi, not a list"),
        ("- name: web\n    image", "- image", "spec.containers[0].name", 10, "required field is missing"),
        ("- name: web\n    image", "- name: null\n    image", "spec.containers[0].name", 10,
         "required field is missing"),
        ("creationTimestamp: null", "creationTimestamp: yesterday", "metadata.creationTimestamp", 5,
         'must be a time such as 2026-01-31T12:00:00Z, not the string "yesterday"'),
        ("creationTimestamp: null", "creationTimestamp: 2026-01-31T12:00:00", "metadata.creationTimestamp", 5,
         'must be a time such as 2026-01-31T12:00:00Z, not the string "2026-01-31T12:00:00"'),
        ("sizeLimit: 100", "sizeLimit: true", "spec.volumes[0].emptyDir.sizeLimit", 23,
         "must be a string, not a boolean (true)"),
        ("nodeSelector: null", "hostNetwork: 'yes'", "spec.hostNetwork", 8,
         'must be true or false, not the string "yes"'),
    ],
)  # fmt: skip
def test_the_first_error_has_field_and_line(old: str, new: str, field: str, line: int, message: str) -> None:
    assert POD.count(old) >= 1
    with pytest.raises(FieldError) as caught:
        read(POD.replace(old, new, 1), core_v1.Pod)
    assert (caught.value.field, caught.value.line, caught.value.message) == (field, line, message)
    assert str(caught.value) == f"{field}: {message}"


def test_times_are_decoded() -> None:
    meta = read("creationTimestamp: 2026-01-31T12:00:00+01:00", meta_v1.ObjectMeta)
    assert meta.creationTimestamp.utctimetuple()[:6] == (2026, 1, 31, 11, 0, 0)


class Inner(msgspec.Struct, rename="camel"):
    some_name: int = 0


@dataclass(frozen=True)
class Outer:
    inner: Inner
    by_name: Mapping[str, Inner] = field(default_factory=dict)
    several: tuple[Inner, ...] = ()
    maybe: int | str | None = None


def test_own_structs_and_dataclasses() -> None:
    text = "inner: {someName: 1}\nby_name: {x: {someName: 2}}\nseveral: [{someName: 3}]\n"
    assert read(text, Outer) == Outer(Inner(1), {"x": Inner(2)}, (Inner(3),))


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        ("inner: {}\nby_name:\n  x:\n    some_name: 2\n", "by_name.x.some_name", 4),
        ("inner: {}\nseveral:\n- {}\n- {someNam: 1}\n", "several[1].someNam", 4),
        ("inner: {someName: x}\n", "inner.someName", 1),
        ("maybe: 1\n", "inner", 1),
        ("[]", "", 1),
        ("5", "", 1),
    ],
)
def test_errors_in_own_types(text: str, field: str, line: int) -> None:
    with pytest.raises(FieldError) as caught:
        read(text, Outer)
    assert (caught.value.field, caught.value.line) == (field, line)


def test_suggestions() -> None:
    assert suggest("Containers", ["containers"]) == ", did you mean 'containers'?"
    assert suggest("zzz", ["containers"]) == ""


def test_field_paths() -> None:
    assert field_path(("spec", "containers", 0, "image")) == "spec.containers[0].image"
    assert field_path(("metadata", "labels", "a.b/c")) == "metadata.labels[a.b/c]"
    assert field_path(()) == ""
