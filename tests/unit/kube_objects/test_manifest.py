from __future__ import annotations

import pytest
from lightkube.models import core_v1, discovery_v1

from kube_objects.manifest import ManifestError, read_document, read_single

ALLOWED = {
    ("v1", "Pod"): core_v1.Pod,
    ("v1", "Service"): core_v1.Service,
    ("discovery.k8s.io/v1", "EndpointSlice"): discovery_v1.EndpointSlice,
}
POD = b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: web\n    image: web:1\n"


def read_object(data: bytes, path: str) -> object:
    return read_document(read_single(data, path), path, ALLOWED)


def test_the_type_follows_the_kind() -> None:
    pod = read_object(POD, "web.yaml")
    assert isinstance(pod, core_v1.Pod)
    piece = read_object(
        b'{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4","endpoints":[]}', "e"
    )
    assert isinstance(piece, discovery_v1.EndpointSlice)


KINDS = "(allowed: EndpointSlice discovery.k8s.io/v1, Pod v1, Service v1)"
NO_BETA = f"'discovery.k8s.io/v1beta1' has no EndpointSlice that can be used here {KINDS}"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ": file is empty"),
        (b"# nothing\n", ": file is empty"),
        (b"a: [\n", ":2: not valid YAML: while parsing a flow node, did not find expected node content"),
        (POD + b"---\n" + POD, ":9: holds 2 documents, one object per file is allowed"),
        (b"[]", ":1: is not a Kubernetes object (a mapping with apiVersion and kind)"),
        (b"hello", ":1: is not a Kubernetes object (a mapping with apiVersion and kind)"),
        (b"\nkind: Pod\n", ":2: apiVersion: required field is missing"),
        (b"apiversion: v1\nkind: Pod\n", ":1: apiVersion: required field is missing (found 'apiversion')"),
        (b"apiVersion: v1\n", ":1: kind: required field is missing"),
        (b"apiVersion: 1\nkind: Pod\n", ":1: apiVersion: must be a string, not 1"),
        (b"apiVersion: v1\nkind: Pods\n", f":2: kind: 'Pods' cannot be used here {KINDS}, did you mean 'Pod'?"),
        (b"apiVersion: apps/v1\nkind: Deployment\n", f":2: kind: 'Deployment' cannot be used here {KINDS}"),
        (
            b"apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n",
            f":1: apiVersion: {NO_BETA}, did you mean 'discovery.k8s.io/v1'?",
        ),
        (POD.replace(b"image", b"imag"), ":7: spec.containers[0].imag: unknown field, did you mean 'image'?"),
        (POD.replace(b"web:1", b"[]"), ":7: spec.containers[0].image: must be a string, not a list"),
        (b"x" * (10 << 20), ": file is larger than 1048576 bytes"),
        (b"\x7fELF\x02\x01\x01\x00", ":1: not a text file: control characters are not allowed"),
        (b"\x89PNG\r\n", ":1: not UTF-8 text (byte 0)"),
    ],
)
def test_every_refusal_is_one_line_that_names_file_and_field(data: bytes, text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_object(data, "/m/web.yaml")
    assert str(caught.value) == "cannot read /m/web.yaml" + text
    assert caught.value.path == "/m/web.yaml"
