"""Certificates and kubeconfigs: what is missing is made, what is good stays, what is wrong is named with its repair."""

from __future__ import annotations

import dataclasses
import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from control_plane.certificates import AUTHORITIES, certificates, users
from control_plane.errors import ControlPlaneError
from control_plane.x509 import identity, missing_addresses, new_key, parse_certificate, public_pem
from kube_client.kubeconfig import read_kubeconfig
from tests.unit.control_plane.conftest import NOW, SETTINGS, Plane


def test_everything_is_made_once(plane: Plane) -> None:
    files = plane.pki.ensure(SETTINGS)
    assert {path.relative_to(plane.places.pki).as_posix() for path in files} == {
        *(f"{name}.{kind}" for name in AUTHORITIES for kind in ("crt", "key")),
        *(f"{one.file}.{kind}" for one in certificates(SETTINGS) for kind in ("crt", "key")),
        "sa.key", "sa.pub",
    }  # fmt: skip
    modes = {(path.suffix, path.stat().st_mode & 0o777) for path in files}
    assert modes == {(".key", 0o600), (".crt", 0o644), (".pub", 0o644)}
    assert len(plane.kubeconfigs.ensure(SETTINGS)) == len(users(SETTINGS))
    before = plane.contents()
    plane.again()
    assert plane.pki.ensure(SETTINGS) == ()
    assert plane.kubeconfigs.ensure(SETTINGS) == ()
    assert plane.contents() == before


def test_who_is_in_them(made: Plane) -> None:
    read = {path.name: parse_certificate(path.read_bytes()) for path in made.places.pki.rglob("*.crt")}
    assert identity(read["apiserver.crt"]) == ("kube-apiserver", ())
    names = ("node-1", "kubernetes", "kubernetes.default.svc.cluster.local", "10.96.0.1", "192.0.2.10", "127.0.0.1")
    assert missing_addresses(read["apiserver.crt"], names) == ()
    assert identity(read["apiserver-kubelet-client.crt"]) == ("kube-apiserver-kubelet-client", ("system:masters",))
    node = read_kubeconfig(made.places.kubeconfig("kubelet"))
    assert node.servers == ("https://192.0.2.10:6443",)
    assert node.certificate is not None
    assert identity(parse_certificate(node.certificate.data)) == ("system:node:node-1", ("system:nodes",))


def test_an_endpoint_is_in_the_certificate_and_whom_each_asks(plane: Plane) -> None:
    settings = dataclasses.replace(SETTINGS, control_plane_endpoint="[2001:db8::1]:8443")
    plane.pki.ensure(settings)
    plane.kubeconfigs.ensure(settings)
    certificate = parse_certificate((plane.places.pki / "apiserver.crt").read_bytes())
    assert missing_addresses(certificate, ("2001:db8::1", "192.0.2.10")) == ()
    own, all_of_them = "https://192.0.2.10:6443", "https://[2001:db8::1]:8443"
    asks = {"admin": (all_of_them,), "scheduler": (own,), "controller-manager": (own,), "kubelet": (own, all_of_them)}
    for name, servers in asks.items():
        assert read_kubeconfig(plane.places.kubeconfig(name)).servers == servers
    with pytest.raises(ControlPlaneError, match=r"it is not for api.example.com; run .* certs renew apiserver"):
        plane.pki.ensure(dataclasses.replace(SETTINGS, control_plane_endpoint="api.example.com:6443"))


def test_openssl_trusts_them(made: Plane) -> None:
    pki = made.places.pki
    for name in ("apiserver", "apiserver-kubelet-client"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(pki / "ca.crt")
        context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")


def test_a_run_that_was_cut_off_is_completed(made: Plane) -> None:
    before = made.contents()
    for name in ("ca.crt", "apiserver.crt", "etcd/peer.crt"):  # each key is written before its certificate
        (made.places.pki / name).unlink()
    files = made.pki.ensure(SETTINGS)
    assert {path.name for path in files} >= {"ca.crt", "apiserver.crt", "peer.crt"}
    after = made.contents()
    assert {path: data for path, data in after.items() if path.suffix == ".key"} == {
        path: data for path, data in before.items() if path.suffix == ".key"
    }
    made.again()
    assert made.pki.ensure(SETTINGS) == ()


Damage = Callable[[Path], object]
_FOREIGN = public_pem(new_key())


@pytest.mark.parametrize(
    ("name", "damage", "says", "repair"),
    [
        ("ca.key", Path.unlink, "its key", "put both back from a backup"),
        ("ca.crt", lambda path: path.write_bytes(b""), "is empty", "certs renew"),
        ("ca.crt", lambda path: path.write_bytes(path.read_bytes()[:100]), "is not a certificate", "certs renew"),
        ("ca.key", lambda path: path.write_bytes(b"-----BEGIN"), "is not a private key", "certs renew"),
        ("ca.key", lambda path: path.write_bytes((path.parent / "etcd/ca.key").read_bytes()), "another's key", "renew"),
        ("apiserver.key", Path.unlink, "apiserver.key is missing", "certs renew apiserver"),
        ("apiserver.crt", lambda path: path.write_bytes(b"x"), "is not a certificate", "certs renew apiserver"),
        (
            "etcd/server.crt",
            lambda path: path.write_bytes((path.parent / "peer.crt").read_bytes()),
            "its key is another one",
            "certs renew etcd/server",
        ),
        ("sa.pub", lambda path: path.write_bytes(_FOREIGN), "does not belong to sa.key", "sa.pub"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_made(
    made: Plane, name: str, damage: Damage, says: str, repair: str
) -> None:
    (made.places.pki / "front-proxy-client.crt").unlink()
    damage(made.places.pki / name)
    before = made.contents()
    with pytest.raises(ControlPlaneError, match="cannot use") as caught:
        made.pki.ensure(SETTINGS)
    assert name.partition(".")[0] in str(caught.value)
    assert says in str(caught.value)
    assert repair in str(caught.value)
    assert made.contents() == before


def test_a_foreign_authority(made: Plane, tmp_path: Path) -> None:
    other = Plane(tmp_path / "other")
    other.pki.ensure(SETTINGS)
    for name in ("ca.crt", "ca.key"):
        (made.places.pki / name).write_bytes((other.places.pki / name).read_bytes())
    with pytest.raises(ControlPlaneError, match=r"signed by another authority.*certs renew apiserver$"):
        made.pki.ensure(SETTINGS)
    with pytest.raises(ControlPlaneError, match=r"admin\.conf: it trusts another authority.*renew admin\.conf$"):
        made.kubeconfigs.ensure(SETTINGS)
    _renew_all(made)
    assert made.pki.ensure(SETTINGS) == ()
    assert made.kubeconfigs.ensure(SETTINGS) == ()


def test_expired_ones_are_renewed_with_their_keys(made: Plane) -> None:
    keys = {path: path.read_bytes() for path in made.places.pki.rglob("*.key")}
    made.now = NOW + datetime.timedelta(days=400)
    with pytest.raises(ControlPlaneError, match=r"apiserver\.crt: it has expired on 2027-03-01.*renew apiserver$"):
        made.pki.ensure(SETTINGS)
    with pytest.raises(ControlPlaneError, match=r"admin\.conf: it has expired.*renew admin\.conf$"):
        made.kubeconfigs.ensure(SETTINGS)
    assert len([state for state in _states(made) if "has expired" in state]) == len(certificates(SETTINGS)) + 5
    _renew_all(made)
    assert _states(made) == []
    assert {path: path.read_bytes() for path in keys} == keys


def test_an_authority_that_expired_is_made_again_with_its_key(made: Plane) -> None:
    made.now = NOW + datetime.timedelta(days=3651)
    with pytest.raises(ControlPlaneError, match=r"ca\.crt: it has expired .*; remove it and run"):
        made.pki.ensure(SETTINGS)
    for name in AUTHORITIES:
        (made.places.pki / f"{name}.crt").unlink()
    with pytest.raises(ControlPlaneError, match="renew apiserver"):
        made.pki.ensure(SETTINGS)


def test_another_address_asks_for_a_renewal(made: Plane) -> None:
    moved = dataclasses.replace(SETTINGS, advertise_address="192.0.2.11")
    with pytest.raises(ControlPlaneError, match=r"apiserver\.crt: it is not for 192\.0\.2\.11; .*renew apiserver$"):
        made.pki.ensure(moved)
    with pytest.raises(ControlPlaneError, match=r"it names the server https://192\.0\.2\.10:6443, not"):
        made.kubeconfigs.ensure(moved)


@pytest.mark.parametrize("damage", [b"", b"kind: Config\n", b"users: [{user: {}}]", b"\xff\xfe", b"{"])
def test_a_half_written_kubeconfig(made: Plane, damage: bytes) -> None:
    made.places.kubeconfig("scheduler").write_bytes(damage)
    with pytest.raises(ControlPlaneError, match=r"scheduler\.conf: it is not a kubeconfig.*renew scheduler\.conf$"):
        made.kubeconfigs.ensure(SETTINGS)


def test_no_authority_no_kubeconfig(plane: Plane) -> None:
    with pytest.raises(ControlPlaneError, match=r"ca\.crt: it is missing; run longshore control-plane certs$"):
        plane.kubeconfigs.ensure(SETTINGS)


def _renew_all(plane: Plane) -> None:
    plane.pki.renew(SETTINGS, [one.file for one in certificates(SETTINGS)])
    plane.kubeconfigs.renew(SETTINGS, [f"{name}.conf" for name in users(SETTINGS)])


def _states(plane: Plane) -> list[str]:
    return [
        state.problem for state in (*plane.pki.states(SETTINGS), *plane.kubeconfigs.states(SETTINGS)) if state.problem
    ]
