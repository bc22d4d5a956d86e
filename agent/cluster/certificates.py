"""A node's certificates, as a client and as a server: what is asked of the signer, what its answer means, when it is
time for the next one.

Pure.  Before: `certificate_tool` has made key and request.  Next: `signing` sends and reads, `enrolment` waits.
Sources: API type CertificateSigningRequest and the signers kubernetes.io/kube-apiserver-client-kubelet and
kubernetes.io/kubelet-serving; the documents "TLS bootstrapping" and "Certificate Rotation"; a kubeconfig as the kubelet
writes it.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kube_client.config import ApiConfig

REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
NODES_GROUP = "system:nodes"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_OF_A_HOST = ("Hostname", "InternalIP", "ExternalIP", "InternalDNS", "ExternalDNS")


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a certificate is for; `name` is part of the names of its files."""

    name: str
    signer: str
    usages: tuple[str, ...]
    prefix: str


CLIENT = Purpose(
    "client", "kubernetes.io/kube-apiserver-client-kubelet", ("digital signature", "client auth"), "node-csr-"
)
SERVER = Purpose("server", "kubernetes.io/kubelet-serving", ("digital signature", "server auth"), "serving-csr-")


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when, in seconds since 1970; `names` are the DNS names and addresses it is for, sorted."""

    from_s: float
    until_s: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: the certificate, or why there is none; neither while it waits."""

    certificate: bytes = b""
    refusal: str = ""


class _Condition(msgspec.Struct):
    type: str
    reason: str | None = None
    message: str | None = None


class _Status(msgspec.Struct):
    conditions: list[_Condition] | None = None
    certificate: str | None = None


class RequestShape(msgspec.Struct):
    """What of a CertificateSigningRequest that was read is used."""

    status: _Status | None = None


def user_name(node_name: str) -> str:
    """Who a node is to the API server."""
    return f"system:node:{node_name}"


def serving_names(addresses: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Of the addresses of a Node the names its server's certificate is for, sorted; () while it has no IP address."""
    dns: set[str] = set()
    found: set[str] = set()
    for one in addresses:
        text = one.get("address")
        if one.get("type") not in _OF_A_HOST or not isinstance(text, str) or not text:
            continue
        try:
            found.add(str(ipaddress.ip_address(text)))
        except ValueError:
            if not str(one["type"]).endswith("IP"):
                dns.add(text)
    return tuple(sorted(found | dns)) if found else ()


def signing_request(purpose: Purpose, digest: str, request: str) -> dict[str, Any]:
    """The object.  One key asks once for the same, however often its agent is killed: the name says which key it is."""
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": f"{purpose.prefix}{digest[:40]}"},
        "spec": {
            "request": base64.b64encode(request.encode()).decode(),
            "signerName": purpose.signer,
            "usages": list(purpose.usages),
        },
    }


def outcome(found: dict[str, Any]) -> Outcome:
    """What the state of the object means."""
    status = found.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") in ("Denied", "Failed"):
            why = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
            return Outcome(refusal=f"{condition['type']}{f' ({why})' if why else ''}")
    try:
        return Outcome(base64.b64decode(status.get("certificate") or "", validate=True))
    except ValueError:
        return Outcome(refusal="its certificate is not base64")


def renew_at_s(valid: Validity, chance: Callable[[], float]) -> float:
    """When to ask for the next one: after 70 to 90 % of the life of this one; `chance` is from 0 to 1."""
    return valid.from_s + (valid.until_s - valid.from_s) * (0.7 + 0.2 * chance())


def expiry_text(where: str, until_s: float) -> str:
    """For people: what has expired, and what repairs it."""
    day = datetime.datetime.fromtimestamp(until_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"{where}: the client certificate has expired on {day}; put another one in its place (where Longshore made the "
        "control plane: longshore control-plane certs renew kubelet.conf), or start with --bootstrap-kubeconfig"
    )


def pem_blocks(text: bytes, kind: bytes) -> bytes:
    """The blocks of a PEM text whose name ends with `kind`, such as PRIVATE KEY: many a file holds both."""
    return b"".join(found[0] + b"\n" for found in _BLOCK.finditer(text) if found[1].endswith(kind))


def kubeconfig(api: ApiConfig, pair: Path) -> dict[str, Any]:
    """A kubeconfig of the node for the server of `api`, whose client certificate and key are in the file `pair`."""
    cluster: dict[str, Any] = {"server": ",".join(api.servers)}
    if api.ca is not None and api.ca.path is not None:
        cluster["certificate-authority"] = str(api.ca.path.absolute())
    elif api.ca is not None:
        cluster["certificate-authority-data"] = base64.b64encode(api.ca.data).decode()
    if api.insecure:
        cluster["insecure-skip-tls-verify"] = True
    if api.server_name:
        cluster["tls-server-name"] = api.server_name
    user = {"client-certificate": str(pair), "client-key": str(pair)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": user}],
        "contexts": [{"name": "default-context", "context": {"cluster": "default-cluster", "user": "default-auth"}}],
        "current-context": "default-context",
    }
