"""Which credentials fit which image, and that none of them is ever shown."""

from __future__ import annotations

import base64
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightkube.models import core_v1, meta_v1

from agent.images.keyring import (
    Credential,
    CredentialError,
    fits,
    matching,
    parse_docker_config,
    pull_secrets,
)
from cri_client.types import AuthConfig
from kube_objects.config_data import SECRET, ConfigData, ConfigObjects

CANARY = "hunter2-canary"


@pytest.mark.parametrize(
    ("pattern", "host", "path", "good"),
    [
        ("registry.io", "registry.io", "a/b", True),
        ("registry.io/a", "registry.io", "a/b", True),
        ("registry.io/a/b", "registry.io", "a/b", True),
        ("registry.io/a/c", "registry.io", "a/b", False),
        ("registry.io/a", "registry.io", "ab", False),
        ("*.registry.io", "eu.registry.io", "a", True),
        ("*.registry.io", "registry.io", "a", False),
        ("*.io", "eu.registry.io", "a", False),
        ("*.*.registry.io", "a.b.registry.io", "x", True),
        ("r*.io", "registry.io", "x", True),
        ("registry.io:5000", "registry.io:5000", "x", True),
        ("registry.io", "registry.io:5000", "x", False),
        ("registry.io:8080", "registry.io:5000", "x", False),
        ("https://registry.io/v2/", "registry.io", "x", True),
        ("https://index.docker.io/v1/", "docker.io", "library/web", True),
        ("index.docker.io", "docker.io", "me/web", True),
        ("evil-docker.io", "docker.io", "me/web", False),
        ("//[bad", "registry.io", "x", False),
        ("", "registry.io", "x", False),
    ],
)
def test_patterns(pattern: str, host: str, path: str, good: bool) -> None:
    assert fits(pattern, host, path) is good


def credential(pattern: str, user: str) -> Credential:
    return Credential(pattern, AuthConfig(username=user, password=CANARY))


def test_the_closest_pattern_comes_first_and_each_only_once() -> None:
    known = [
        credential("*.registry.io", "any"),
        credential("eu.registry.io", "host"),
        credential("eu.registry.io/team/app", "path"),
        credential("eu.registry.io/team", "team"),
        credential("other.io", "other"),
        credential("eu.registry.io", "host"),
    ]
    found = matching(known, "eu.registry.io/team/app:1")
    assert [one.auth.username for one in found] == ["path", "team", "host", "any"]


def docker_config(**entries: object) -> bytes:
    return json.dumps({"auths": entries}).encode()


def test_a_docker_config_with_auth_or_user_and_password() -> None:
    auth = base64.b64encode(f"me:{CANARY}:with colon".encode()).decode()
    first, second = parse_docker_config(docker_config(a={"auth": auth}, b={"username": "u", "password": "p"}))
    assert (first.auth.username, first.auth.password) == ("me", f"{CANARY}:with colon")
    assert (second.auth.username, second.auth.password) == ("u", "p")
    (old,) = parse_docker_config(json.dumps({"r.io": {"auth": auth}}).encode(), legacy=True)
    assert old.pattern == "r.io"
    assert parse_docker_config(b"{}") == ()


@pytest.mark.parametrize(
    "text",
    [
        CANARY.encode(),
        b"\xff" + CANARY.encode(),
        json.dumps([CANARY]).encode(),
        json.dumps({"auths": CANARY}).encode(),
        json.dumps({"auths": {"r.io": CANARY}}).encode(),
        json.dumps({"auths": {"r.io": {"auth": f"!{CANARY}"}}}).encode(),
        json.dumps({"auths": {"r.io": {"auth": base64.b64encode(CANARY.encode()).decode()}}}).encode(),
        json.dumps({"auths": {"r.io": {"password": [CANARY]}}}).encode(),
    ],
)
def test_cve_2020_8564_what_is_malformed_is_told_without_any_of_it(
    text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(CredentialError) as caught:
        parse_docker_config(text)
    for told in (str(caught.value), repr(caught.value), caplog.text):
        assert CANARY not in told
        assert base64.b64encode(CANARY.encode()).decode() not in told


def test_no_repr_shows_a_credential() -> None:
    auth = AuthConfig(username="u", password=CANARY, auth=CANARY, identity_token=CANARY, registry_token=CANARY)
    assert CANARY not in repr(auth)
    assert CANARY not in repr(Credential("r.io", auth))
    assert CANARY not in f"{[auth]}"


@given(st.binary(max_size=200))
def test_any_bytes_are_credentials_or_an_error(text: bytes) -> None:
    for legacy in (False, True):
        try:
            parse_docker_config(text, legacy=legacy)
        except CredentialError:
            continue


def test_pull_secrets_of_a_pod_and_what_is_wrong_with_them() -> None:
    objects = ConfigObjects(
        [
            ConfigData(
                SECRET,
                "default",
                "good",
                {".dockerconfigjson": docker_config(**{"r.io": {"username": "u", "password": CANARY}})},
                type="kubernetes.io/dockerconfigjson",
            ),
            ConfigData(SECRET, "default", "opaque", {"x": CANARY.encode()}, type="Opaque"),
            ConfigData(SECRET, "default", "bad", {".dockercfg": CANARY.encode()}, type="kubernetes.io/dockercfg"),
            ConfigData(SECRET, "other", "far", {}, type="kubernetes.io/dockerconfigjson"),
        ]
    )
    names = [core_v1.LocalObjectReference(name=name) for name in ("good", "opaque", "bad", "far")]
    pod = core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="a", namespace="default"),
        spec=core_v1.PodSpec(containers=[], imagePullSecrets=names),
    )
    found, complaints = pull_secrets(pod, objects)
    assert [one.auth.password for one in found] == [CANARY]
    assert len(complaints) == 3
    assert "there is no such Secret" in complaints[2]
    assert CANARY not in "".join(complaints)
