"""Tokens, and the proof of who a cluster is; the whole way is tests/cluster/test_control_plane.py."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import pytest

from control_plane.bootstrap import (
    CLUSTER_INFO,
    UnsignedError,
    authority_pin,
    check_cluster_info,
    joining_objects,
    parse_token,
    read_token,
    token_secret,
)
from control_plane.certificates import AUTHORITY_VALID
from control_plane.errors import ControlPlaneError
from control_plane.kubeconfigs import anonymous_kubeconfig, read_cluster
from control_plane.x509 import MaterialError, certificate_pem, new_authority, new_key
from tests.unit.control_plane.conftest import NOW

TOKEN = "abcdef.0123456789abcdef"
# A detached JWS (RFC 7515, appendix F) of the text with that token, as the bootstrap signer makes them.
TEXT = "kind: Config\n"
SIGNED = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..3ZR7IfHD4V0NLYjj9trDyCFIZSwMzkyMpnxx9vCiSPI"


@pytest.mark.parametrize("text", ["", "abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", f"{TOKEN}\n"])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(ControlPlaneError, match="cannot use the token") as caught:
        parse_token(text)
    assert not text or text.strip() not in str(caught.value), "a secret is not repeated"


def test_the_secret_of_a_token() -> None:
    secret = token_secret(TOKEN, NOW + datetime.timedelta(hours=1))
    assert (secret["metadata"]["name"], secret["type"]) == ("bootstrap-token-abcdef", "bootstrap.kubernetes.io/token")
    assert secret["stringData"]["expiration"] == "2026-03-01T13:00:00Z"
    assert secret["stringData"]["auth-extra-groups"] == "system:bootstrappers:kubeadm:default-node-token"


def stored(secret: dict[str, Any], **changes: str) -> dict[str, Any]:
    """As an API server gives it."""
    data = {**secret["stringData"], **changes}
    return {**secret, "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}}


def test_a_token_is_read_from_its_secret() -> None:
    ends = NOW + datetime.timedelta(hours=1)
    secret = token_secret(TOKEN, ends)
    found = read_token(stored(secret))
    assert found is not None
    assert (found.token, found.expires, found.usages) == (TOKEN, ends, ("authentication", "signing"))
    assert found.groups == ("system:bootstrappers:kubeadm:default-node-token",)
    assert read_token(stored(secret, **{"token-id": "no"})) is None
    assert read_token({**secret, "data": {"token-id": "%"}}) is None
    for wrong in ("soon", "2026-03-01T13:00:00"):  # the API server takes neither for a time, and the token for expired
        over = read_token(stored(secret, expiration=wrong))
        assert over is not None
        assert over.expires is not None
        assert over.expires < NOW
    forever = read_token(stored(secret, expiration="", description="by kubeadm"))
    assert forever is not None
    assert (forever.expires, forever.description) == (None, "by kubeadm")


def test_only_the_token_proves_the_cluster() -> None:
    good = {"kubeconfig": TEXT, "jws-kubeconfig-abcdef": SIGNED}
    assert check_cluster_info(good, TOKEN) == TEXT
    bad = (
        {**good, "kubeconfig": "kind: Other\n"},
        {**good, "jws-kubeconfig-abcdef": SIGNED[:-4]},
        {**good, "jws-kubeconfig-abcdef": "x"},
        {**good, "jws-kubeconfig-abcdef": "eyJhbGciOiJub25lIn0.."},
    )
    for data in bad:
        with pytest.raises(ControlPlaneError, match="not signed with this token"):
            check_cluster_info(data, TOKEN)
    with pytest.raises(ControlPlaneError, match="not signed with this token"):
        check_cluster_info(good, "abcdef.0123456789abcdeg")
    with pytest.raises(UnsignedError, match="it knows no token bbbbbb"):
        check_cluster_info(good, "bbbbbb.0123456789abcdef")
    with pytest.raises(ControlPlaneError, match="it knows no token"):
        check_cluster_info({}, TOKEN)


def test_what_anybody_may_know_of_the_cluster() -> None:
    ca = certificate_pem(new_authority("kubernetes", new_key(), NOW, AUTHORITY_VALID))
    text = anonymous_kubeconfig("https://192.0.2.10:6443", ca)
    assert read_cluster(text) == ("https://192.0.2.10:6443", ca)
    objects = joining_objects(text.decode())
    assert objects[CLUSTER_INFO]["data"] == {"kubeconfig": text.decode()}
    for path, value in objects.items():
        assert path.endswith(f"/{value['metadata']['name']}")
    (role,) = (one for one in objects.values() if one["kind"] == "Role")
    (rule,) = role["rules"]
    assert (rule["resources"], rule["resourceNames"], rule["verbs"]) == (["configmaps"], ["cluster-info"], ["get"])
    for wrong in (b"", b"clusters: []", b"clusters: [{cluster: {server: x, certificate-authority-data: '%'}}]"):
        with pytest.raises(MaterialError):
            read_cluster(wrong)


def test_the_pin_is_of_the_key_not_of_the_certificate() -> None:
    key = new_key()
    first, again = (new_authority(name, key, NOW, AUTHORITY_VALID) for name in ("kubernetes", "other"))
    assert (
        authority_pin(first)
        == authority_pin(again)
        != authority_pin(new_authority("x", new_key(), NOW, AUTHORITY_VALID))
    )
    assert authority_pin(first).startswith("sha256:")
