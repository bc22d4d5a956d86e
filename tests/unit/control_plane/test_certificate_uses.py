"""What each certificate of a control plane may be used for, by whom it is signed, and how long."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from control_plane.certificates import AUTHORITIES
from control_plane.errors import ControlPlaneError
from control_plane.x509 import (
    Subject,
    certificate_pem,
    identity,
    is_signed_by,
    issue,
    missing_addresses,
    parse_certificate,
    parse_key,
)
from kube_client.kubeconfig import read_kubeconfig
from tests.unit.control_plane.conftest import NOW, SETTINGS, Plane

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
MASTERS = ("system:masters",)
CERTIFICATES = {
    "apiserver": ("ca", "kube-apiserver", (), {SERVER}),
    "apiserver-kubelet-client": ("ca", "kube-apiserver-kubelet-client", MASTERS, {CLIENT}),
    "front-proxy-client": ("front-proxy-ca", "front-proxy-client", (), {CLIENT}),
    "etcd/server": ("etcd/ca", "node-1", (), {SERVER, CLIENT}),
    "etcd/peer": ("etcd/ca", "node-1", (), {SERVER, CLIENT}),
    "etcd/healthcheck-client": ("etcd/ca", "kube-etcd-healthcheck-client", (), {CLIENT}),
    "apiserver-etcd-client": ("etcd/ca", "kube-apiserver-etcd-client", (), {CLIENT}),
}
USERS = {
    "admin": ("kubernetes-admin", MASTERS),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "kubelet": ("system:node:node-1", ("system:nodes",)),
    "proxy": ("system:kube-proxy", ()),
}


def read(plane: Plane, name: str) -> x509.Certificate:
    return parse_certificate((plane.places.pki / f"{name}.crt").read_bytes())


def of_user(plane: Plane, name: str) -> x509.Certificate:
    found = read_kubeconfig(plane.places.kubeconfig(name)).certificate
    assert found is not None
    return parse_certificate(found.data)


def may_sign(certificate: x509.Certificate) -> tuple[bool, bool]:
    """By each of the two extensions that say so, which must be critical."""
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (basic.critical, usage.critical) == (True, True)
    return basic.value.ca, usage.value.key_cert_sign


def uses(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_certificate_is_good_for_its_purpose_alone(made: Plane, name: str) -> None:
    found, (authority, user, groups, wanted) = read(made, name), CERTIFICATES[name]
    assert (identity(found), uses(found), may_sign(found)) == ((user, groups), wanted, (False, False))
    assert [one for one in AUTHORITIES if is_signed_by(found, read(made, one))] == [authority]


@pytest.mark.parametrize("name", USERS)
def test_a_kubeconfig_is_for_its_user_alone(made: Plane, name: str) -> None:
    found = of_user(made, name)
    assert (identity(found), uses(found), may_sign(found)) == (USERS[name], {CLIENT}, (False, False))
    assert is_signed_by(found, read(made, "ca"))
    assert made.places.kubeconfig(name).stat().st_mode & 0o777 == 0o600


def test_authorities_sign_and_there_are_no_other_certificates(made: Plane) -> None:
    for name in AUTHORITIES:
        assert may_sign(read(made, name)) == (True, True)
    there = {str(path.relative_to(made.places.pki).with_suffix("")) for path in made.places.pki.rglob("*.crt")}
    assert there == {*AUTHORITIES, *CERTIFICATES}
    assert {path.stem for path in made.places.kubernetes_dir.glob("*.conf")} == set(USERS)


def test_a_certificate_begins_before_a_clock_that_is_slow_and_ends_with_its_authority(made: Plane) -> None:
    assert read(made, "apiserver").not_valid_before_utc == NOW - datetime.timedelta(minutes=5)
    end = read(made, "ca").not_valid_after_utc
    assert read(made, "apiserver").not_valid_after_utc < end
    made.now = end - datetime.timedelta(days=7)
    made.pki.renew(SETTINGS, ["apiserver"])
    made.kubeconfigs.renew(SETTINGS, ["admin.conf"])
    assert read(made, "apiserver").not_valid_after_utc == of_user(made, "admin").not_valid_after_utc == end


def test_the_api_server_is_known_by_every_name_that_was_asked_for(plane: Plane) -> None:
    names = ("api.example.com", "198.51.100.7")
    plane.pki.ensure(dataclasses.replace(SETTINGS, cert_sans=names))
    assert missing_addresses(read(plane, "apiserver"), (*names, "localhost")) == ()


def put(plane: Plane, name: str, subject: Subject) -> None:
    """A certificate that the cluster's authority has signed, for the key that is there."""
    key = parse_key((plane.places.pki / f"{name}.key").read_bytes())
    signed = issue(plane.pki.authority(), subject, key, NOW, datetime.timedelta(days=1))
    (plane.places.pki / f"{name}.crt").write_bytes(certificate_pem(signed))


@pytest.mark.parametrize(
    ("name", "subject", "says"),
    [
        ("apiserver-kubelet-client", Subject(name="somebody", groups=MASTERS), "it is for 'somebody', not for"),
        ("apiserver-kubelet-client", Subject(name="kube-apiserver-kubelet-client"), "it is for 'kube-apiserver-kubel"),
        ("ca", Subject(name="kubernetes"), "it may not sign certificates"),
    ],
)
def test_what_is_signed_and_for_something_else_is_not_used(made: Plane, name: str, subject: Subject, says: str) -> None:
    put(made, name, subject)
    with pytest.raises(ControlPlaneError, match=rf"cannot use .*/{name}\.crt: {says}"):
        made.pki.ensure(SETTINGS)


def test_what_is_not_valid_yet_is_not_used(made: Plane) -> None:
    made.now = NOW - datetime.timedelta(minutes=6)
    with pytest.raises(ControlPlaneError, match=r"it is valid only from 2026-03-01 11:55 UTC on; is the clock right\?"):
        made.pki.ensure(SETTINGS)
