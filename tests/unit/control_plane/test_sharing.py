"""What control planes share, and how etcd's members are counted."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest

from control_plane.errors import ControlPlaneError
from control_plane.etcd_cluster import Member, cluster_peers, initial_cluster, own_member, quorum_problem
from control_plane.sharing import (
    CONFIG,
    SECRET,
    SHARED,
    new_certificate_key,
    open_certificates,
    parse_certificate_key,
    shared_objects,
    shared_settings,
)
from tests.unit.control_plane.conftest import SETTINGS

FILES = {name: f"content of {name}".encode() for name in SHARED}
OWNER = {"name": "bootstrap-token-abcdef", "uid": "1-2-3"}
KEY = parse_certificate_key("ab" * 32)
HA = dataclasses.replace(SETTINGS, control_plane_endpoint="api.example.com:6443", cert_sans=("api.example.com",))


def objects() -> dict[str, Any]:
    return shared_objects(FILES, dataclasses.asdict(HA), KEY, OWNER)


def test_what_is_shared_is_opened_with_the_key_alone() -> None:
    secret = objects()[SECRET]
    assert open_certificates(secret, KEY) == FILES
    assert b"content" not in b"".join(base64.b64decode(one) for one in secret["data"].values())
    assert set(secret["data"]) == {name.replace("/", "-") for name in SHARED}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "1-2-3"
    with pytest.raises(ControlPlaneError, match=r"another than that of the Secret; longshore .* upload-certs"):
        open_certificates(secret, parse_certificate_key(new_certificate_key()))


def test_no_nonce_is_used_twice_with_a_key() -> None:
    """Of two texts that one nonce has sealed anybody has the difference, and may seal others."""
    sealed = [one for _ in range(3) for one in objects()[SECRET]["data"].values()]
    assert len({base64.b64decode(one)[:12] for one in sealed}) == len(sealed) == 3 * len(SHARED)


@pytest.mark.parametrize("damage", ["missing", "not base64", "too short", "changed"])
def test_a_secret_that_is_damaged_is_refused(damage: str) -> None:
    secret = objects()[SECRET]
    sealed = bytearray(base64.b64decode(secret["data"]["etcd-ca.key"]))
    sealed[-1] ^= 1
    values = {"not base64": "!", "too short": "AAAA", "changed": base64.b64encode(sealed).decode()}
    if damage == "missing":
        del secret["data"]["etcd-ca.key"]
    else:
        secret["data"]["etcd-ca.key"] = values[damage]
    with pytest.raises(ControlPlaneError, match=r"etcd-ca.key is missing or damaged|another than that of the Secret"):
        open_certificates(secret, KEY)


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ab" * 33])
def test_a_certificate_key_is_64_digits(text: str) -> None:
    with pytest.raises(ControlPlaneError, match="64 hexadecimal digits"):
        parse_certificate_key(text)


def test_settings_of_the_cluster_come_along_and_none_of_a_machine() -> None:
    found = shared_settings(objects()[CONFIG])
    assert dataclasses.replace(SETTINGS, **found) == HA
    assert not {"node_name", "advertise_address", "etcd_cluster"} & set(found)
    with pytest.raises(ControlPlaneError, match="it has no settings of a cluster"):
        shared_settings({"data": {"settings": "[]"}})


def test_only_machines_that_join_may_read_it() -> None:
    bindings = [one for one in objects().values() if one["kind"] == "RoleBinding"]
    assert [one["subjects"][0]["name"] for one in bindings] == ["system:bootstrappers:kubeadm:default-node-token"] * 2
    for role in (one for one in objects().values() if one["kind"] == "Role"):
        assert role["rules"][0]["verbs"] == ["get"]
        assert len(role["rules"][0]["resourceNames"]) == 1


def member(number: int, *, name: str | None = None, learner: bool = False) -> Member:
    return Member(number, f"plane-{number}" if name is None else name, (f"https://192.0.2.{number}:2380",), (), learner)


def test_the_initial_cluster_names_this_machine_itself() -> None:
    members = [member(1), member(2, name=""), member(255, name="")]
    peer = "https://192.0.2.2:2380"
    text = initial_cluster(members, peer, "plane-2")
    assert text == ("plane-1=https://192.0.2.1:2380,plane-2=https://192.0.2.2:2380,ff=https://192.0.2.255:2380")
    assert cluster_peers(text) == ("https://192.0.2.1:2380", peer, "https://192.0.2.255:2380")
    assert own_member(members, peer) == members[1]
    assert own_member(members, "https://192.0.2.3:2380") is None


@pytest.mark.parametrize(
    ("count", "working", "problem"),
    [
        (1, (), ""),
        (2, (2,), ""),
        (2, (), "plane-2 does not"),
        (3, (2, 3), ""),
        (3, (2,), "of its 2 other members 2 must work, and plane-3 does not"),
        (3, (), "plane-2, plane-3 do not"),
        (4, (2, 3), ""),
        (5, (2, 3), "of its 4 other members 3 must work"),
    ],
)
def test_who_may_leave(count: int, working: tuple[int, ...], problem: str) -> None:
    members = [member(number) for number in range(1, count + 1)]
    found = quorum_problem(members, members[0], working)
    assert (problem in found, bool(found)) == (True, bool(problem))


def test_a_learner_may_always_leave_and_counts_for_nobody() -> None:
    learner = member(3, learner=True)
    assert quorum_problem([member(1), member(2), learner], learner, ()) == ""
    assert quorum_problem([member(1), learner], member(1), ()) == ""
