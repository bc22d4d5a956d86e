"""ConfigMaps and Secrets from files: what they hold, what is refused, and that no value of a Secret is ever quoted."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from agent.sources.manifest import parse_manifest
from agent.sources.manifest_dir import ManifestState, merge_snapshot, remember
from daemonkit.watch_dir import DirectorySnapshot
from kube_objects.config_data import ConfigData
from kube_objects.manifest import ManifestError

CANARY = "hunter2-canary"
CANARY_64 = base64.b64encode(CANARY.encode()).decode()
MANIFESTS = Path("/m")


def read(text: str) -> ConfigData:
    found = parse_manifest(text.encode(), "/m/x.yaml", "node1")
    assert isinstance(found, ConfigData)
    return found


def config_map(rest: str) -> str:
    return f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, {rest}}}"


def secret(rest: str) -> str:
    return f"{{apiVersion: v1, kind: Secret, metadata: {{name: s, namespace: prod}}, {rest}}}"


def picture(before: ManifestState, **files: str) -> ManifestState:
    content = {f"{name}.yaml": text.encode() for name, text in files.items()}
    return merge_snapshot(before, DirectorySnapshot(path=MANIFESTS, files=content, missing=False, error=None), "node1")


def test_a_config_map_has_texts_and_bytes() -> None:
    found = read(config_map("data: {a: x}, binaryData: {b: AAE=}, immutable: true"))
    assert found.key == ("configmap", "default", "c")
    assert (found.data, found.binary, found.immutable) == ({"a": b"x"}, {"b": b"\0\1"}, True)


def test_a_secret_is_decoded_and_its_string_data_goes_over_its_data() -> None:
    found = read(secret(f"data: {{a: '{CANARY_64}', b: AAE=}}, stringData: {{b: text}}"))
    assert found.key == ("secret", "prod", "s")
    assert found.data == {"a": CANARY.encode(), "b": b"text"}
    assert found.type == "Opaque"
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (config_map("data: {'a/b': x}"), "data[a/b]: 'a/b' must be letters, digits, '-', '_' and '.'"),
        (config_map("data: {..a: x}"), "data[..a]: '..a' must not be '.' and not begin with '..'"),
        (config_map("data: {a: x}, binaryData: {a: AAE=}"), "binaryData.a: is in data, too"),
        (config_map("binaryData: {a: '%'}"), "binaryData.a: must be base64"),
        (config_map("dta: {}"), "dta: unknown field, did you mean 'data'?"),
        (
            secret("type: kubernetes.io/tls, stringData: {tls.crt: x}"),
            "type kubernetes.io/tls must have the key tls.key",
        ),
        (secret("type: kubernetes.io/basic-auth"), "must have the key username or password"),
        (secret("type: kubernetes.io/service-account-token"), "type: kubernetes.io/service-account-token needs an API"),
        (
            secret("type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: '['}"),
            "data[.dockerconfigjson]: must be a JSON object",
        ),
    ],
)
def test_what_an_api_server_refuses_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        secret(f"data: {{a: '{CANARY}'}}"),
        secret(f"data: {CANARY}"),
        secret(f"stringData: [{CANARY}]"),
        secret(f"stringData: {{a: {{b: {CANARY}}}}}"),
        secret(f"immutable: {CANARY}"),
        secret(f"type: kubernetes.io/dockerconfigjson, stringData: {{.dockerconfigjson: '{CANARY}'}}"),
        f"kind: Secret\napiVersion: v1\nmetadata: {{name: s}}\nstringData:\n  a: *{CANARY}",
        f"kind: Secret\napiVersion: v1\nmetadata: {{name: s}}\nstringData:\n  a: !!int {CANARY}",
        f"kind: Secret\napiVersion: v1\nmetadata: {{name: s}}\nstringData:\n  a: !{CANARY} x",
        f"kind: Secret\napiVersion: v1\nmetadata: {{name: s}}\nstringData:\n  a: 'x\n {CANARY}: :",
        f'{{"kind": "Secret", "apiVersion": "v1", "stringData": {{"a": "{CANARY}}}',
        f"kind: secret\napiVersion: v1\ndata: {{a: {CANARY}}}",
    ],
)
def test_no_message_quotes_a_secret(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "not valid" in str(caught.value) or caught.value.field


def test_a_number_in_a_secret_is_not_quoted() -> None:
    with pytest.raises(ManifestError) as caught:
        read(secret("stringData: {pin: 471108154711}"))
    assert "4711" not in str(caught.value)
    assert "data.pin: must be a string" in str(caught.value).replace("stringData", "data")


def test_good_files_decide_and_bad_ones_change_nothing() -> None:
    first = picture(ManifestState(), c=config_map("data: {a: x}"))
    assert [one.data for one in first.objects.values()] == [{"a": b"x"}]
    bad = picture(first, c=config_map("data: [x]"))
    assert [one.data for one in bad.objects.values()] == [{"a": b"x"}]
    assert list(bad.errors) == ["/m/c.yaml"]
    again = remember(bad.raw, "node1")
    assert again.objects == first.objects
    assert not picture(again).objects


def test_of_two_with_one_name_the_first_stays() -> None:
    both = picture(ManifestState(), b=config_map("data: {a: x}"), c=config_map("data: {a: other}"))
    assert [one.data for one in both.objects.values()] == [{"a": b"x"}]
    assert "configmap default/c is already defined by /m/b.yaml" in str(both.errors["/m/c.yaml"])


def test_what_is_immutable_stays_until_its_file_is_gone() -> None:
    first = picture(ManifestState(), c=config_map("data: {a: x}, immutable: true"))
    for change in ("data: {a: other}, immutable: true", "data: {a: x}"):
        changed = picture(first, c=config_map(change))
        assert changed.objects == first.objects
        assert "the object is immutable" in str(changed.errors["/m/c.yaml"])
    moved = picture(first, other=config_map("data: {a: other}"))
    assert "the object is immutable" in str(moved.errors["/m/other.yaml"])
    assert [one.data for one in picture(picture(first), c=config_map("data: {a: other}")).objects.values()] == [
        {"a": b"other"}
    ]
