"""The kubeconfigs of a control plane: admin.conf, kubelet.conf and those of its parts. I/O: reads and writes files.

Before: `control_plane.pki` has the authority. Next: kubectl, the controllers' static pods, the agent and the proxy
read them. Each holds its client certificate itself, as kubeadm's do. A good one stays; a wrong one is named with the
command that repairs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from control_plane.certificates import AUTHORITIES, CERTIFICATE_VALID, CLUSTER_CA, server_of, users
from control_plane.errors import ControlPlaneError
from control_plane.files import Content, Files
from control_plane.pki import COMMAND as CERTS
from control_plane.pki import CertificateState, Pki
from control_plane.settings import ClusterSettings, Places
from control_plane.x509 import (
    Authority,
    MaterialError,
    certificate_pem,
    issue,
    key_pem,
    new_key,
    parse_certificate,
    parse_key,
    problem_of,
)

COMMAND = "longshore control-plane kubeconfigs"


@dataclass(frozen=True)
class _Parts:
    server: str
    ca: bytes
    certificate: bytes
    key: bytes


class Kubeconfigs:
    """Those of one control plane."""

    def __init__(self, places: Places, files: Files, pki: Pki) -> None:
        self._places = places
        self._files = files
        self._pki = pki

    def ensure(self, settings: ClusterSettings) -> tuple[Path, ...]:
        """Make what is missing; what was made. Raises ControlPlaneError for a wrong one, and then made none."""
        authority = self._pki.authority()
        missing = [name for name in users(settings) if not self._is_there(name, settings, authority)]
        return self._write(missing, settings, authority)

    def renew(self, settings: ClusterSettings, names: Collection[str]) -> tuple[Path, ...]:
        """Make these anew (`admin.conf`, ...), whatever state they are in. Raises ControlPlaneError."""
        wanted = [name for name in users(settings) if f"{name}.conf" in names]
        return self._write(wanted, settings, self._pki.authority()) if wanted else ()

    def states(self, settings: ClusterSettings) -> Iterator[CertificateState]:
        """Every kubeconfig's client certificate, and what is wrong with it."""
        for name in users(settings):
            problem, expires = "", None
            try:
                there = self._is_there(name, settings, self._pki.authority())
                problem = "" if there else f"missing; run {COMMAND}"
            except ControlPlaneError as error:
                problem = str(error)
            with contextlib.suppress(MaterialError, ControlPlaneError):
                data = self._files.read(self._places.kubeconfig(name)) or b""
                expires = parse_certificate(_parse(data).certificate).not_valid_after_utc
            yield CertificateState(f"{name}.conf", AUTHORITIES[CLUSTER_CA], expires, problem)

    def _is_there(self, name: str, settings: ClusterSettings, authority: Authority) -> bool:
        path = self._places.kubeconfig(name)
        data = self._files.read(path)
        if data is None:
            return False
        try:
            parts = _parse(data)
            problem = self._problem(name, parts, settings, authority)
        except MaterialError as error:
            problem = f"it {error}"
        if problem:
            raise ControlPlaneError(f"cannot use {path}: {problem}; run {CERTS} renew {name}.conf")
        return True

    def _problem(self, name: str, parts: _Parts, settings: ClusterSettings, authority: Authority) -> str | None:
        if parse_certificate(parts.ca) != authority.certificate:
            return f"it trusts another authority than {self._places.pki}/ca.crt"
        if parts.server != server_of(name, settings):
            return f"it names the server {parts.server}, not {server_of(name, settings)}"
        certificate, key = parse_certificate(parts.certificate), parse_key(parts.key)
        return problem_of(certificate, key, authority.certificate, users(settings)[name], self._pki.now)

    def _write(self, names: Collection[str], settings: ClusterSettings, authority: Authority) -> tuple[Path, ...]:
        wanted = {}
        for name in names:
            subject, key = users(settings)[name], new_key()
            certificate = issue(authority, subject, key, self._pki.now, CERTIFICATE_VALID)
            pair = {"certificate": certificate_pem(certificate), "key": key_pem(key)}
            who = {f"client-{kind}-data": _base64(data) for kind, data in pair.items()}
            ca = certificate_pem(authority.certificate)
            server = server_of(name, settings)
            wanted[self._places.kubeconfig(name)] = Content(user_kubeconfig(server, ca, subject.name, who))
        return self._files.write(wanted)


def anonymous_kubeconfig(server: str, ca: bytes) -> bytes:
    """Where the cluster is and how to know it, without a user."""
    cluster = {"certificate-authority-data": _base64(ca), "server": server}
    value = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "kubernetes", "cluster": cluster}]}
    return _yaml(value)


def user_kubeconfig(server: str, ca: bytes, user: str, credentials: Mapping[str, str]) -> bytes:
    """With credentials of any kind: fields of a kubeconfig's user."""
    context = f"{user}@kubernetes"
    cluster = {"certificate-authority-data": _base64(ca), "server": server}
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": cluster}],
        "contexts": [{"name": context, "context": {"cluster": "kubernetes", "user": user}}],
        "current-context": context,
        "users": [{"name": user, "user": dict(credentials)}],
    }
    return _yaml(value)


def read_cluster(text: bytes) -> tuple[str, bytes]:
    """Server and authority of the first cluster. Raises MaterialError."""
    try:
        cluster = yaml.safe_load(text)["clusters"][0]["cluster"]
        return str(cluster["server"]), _bytes(cluster, "certificate-authority-data")
    except (yaml.YAMLError, UnicodeError, LookupError, TypeError):
        raise MaterialError("is not a kubeconfig with a cluster in it") from None


def _yaml(value: object) -> bytes:
    return yaml.safe_dump(value, sort_keys=False, width=10_000).encode()


def _parse(data: bytes) -> _Parts:
    """One with a client certificate in it. Raises MaterialError."""
    try:
        value = yaml.safe_load(data)
        cluster, user = value["clusters"][0]["cluster"], value["users"][0]["user"]
        return _Parts(
            server=str(cluster["server"]),
            ca=_bytes(cluster, "certificate-authority-data"),
            certificate=_bytes(user, "client-certificate-data"),
            key=_bytes(user, "client-key-data"),
        )
    except (yaml.YAMLError, UnicodeError, LookupError, TypeError):
        raise MaterialError("is not a kubeconfig with a client certificate in it") from None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(part: Mapping[str, Any], field: str) -> bytes:
    try:
        return base64.b64decode(part[field], validate=True)
    except (binascii.Error, TypeError):
        raise MaterialError(f"has a {field} that is not base64") from None
