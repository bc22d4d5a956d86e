"""What lets other machines join: tokens, the objects that a joining agent needs, and the proof of who the cluster is.
Pure.

Before: `longshore up` and `longshore control-plane token` make the objects, `longshore join` has a token. Next: the
agent's own TLS bootstrap. Names and roles are kubeadm's; source:
https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/ and kubelet-tls-bootstrapping.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from control_plane.errors import ControlPlaneError

Json = dict[str, Any]
CLUSTER_INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
TOKEN_SECRETS = "/api/v1/namespaces/kube-system/secrets"  # noqa: S105 - a path
TOKEN_TYPE = "bootstrap.kubernetes.io/token"  # noqa: S105
_USAGE = "usage-bootstrap-"
_TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})\Z")
JOINING = "system:bootstrappers:kubeadm:default-node-token"
"""The group of machines that join."""
_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.UTC)
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class TokenState:
    """A token of the cluster; `expires` None: never."""

    token: str
    expires: datetime.datetime | None
    usages: tuple[str, ...]
    description: str
    groups: tuple[str, ...]


class UnsignedError(ControlPlaneError):
    """The cluster has not signed with the token, or not yet: for a new one its controller takes a moment."""


def parse_token(text: str) -> tuple[str, str]:
    """Id and secret. Raises ControlPlaneError."""
    found = _TOKEN.match(text)
    if found is None:
        raise ControlPlaneError("cannot use the token: it is not six small letters or digits, a dot, and sixteen more")
    return found[1], found[2]


def token_path(identifier: str) -> str:
    """Of its Secret."""
    return f"{TOKEN_SECRETS}/bootstrap-token-{identifier}"


def token_secret(token: str, expires: datetime.datetime) -> Json:
    """The Secret that makes it valid."""
    identifier, secret = parse_token(token)
    data = {
        "token-id": identifier,
        "token-secret": secret,
        "expiration": expires.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": JOINING,
        "description": "made by longshore control-plane token",
    }
    metadata = {"name": f"bootstrap-token-{identifier}", "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": TOKEN_TYPE, "stringData": data}


def read_token(secret: Json) -> TokenState | None:
    """None for a Secret that is no token; a time that cannot be read is one that is over, as the API server has it."""
    try:
        data = {name: base64.b64decode(text).decode() for name, text in (secret.get("data") or {}).items()}
        token = f"{data['token-id']}.{data['token-secret']}"
        parse_token(token)
    except (LookupError, ValueError, ControlPlaneError):
        return None
    expires = None
    if text := data.get("expiration"):
        try:
            expires = datetime.datetime.fromisoformat(text)
        except ValueError:
            expires = _LONG_AGO
        expires = expires if expires.tzinfo else _LONG_AGO
    usages = tuple(
        sorted(name.removeprefix(_USAGE) for name in data if name.startswith(_USAGE) and data[name] == "true")
    )
    groups = tuple(filter(None, data.get("auth-extra-groups", "").split(",")))
    return TokenState(token, expires, usages, data.get("description", ""), groups)


def joining_objects(kubeconfig: str) -> dict[str, Json]:
    """Path -> object. `kubeconfig`: where the cluster is and its authority, for anybody to read."""
    csr = "system:certificates.k8s.io:certificatesigningrequests"
    bindings = {
        "kubeadm:get-nodes": ("kubeadm:get-nodes", JOINING),
        "kubeadm:kubelet-bootstrap": ("system:node-bootstrapper", JOINING),
        "kubeadm:node-autoapprove-bootstrap": (f"{csr}:nodeclient", JOINING),
        "kubeadm:node-autoapprove-certificate-rotation": (f"{csr}:selfnodeclient", "system:nodes"),
        # A worker's proxy uses the certificate of its agent, and agents route to the pods of other Nodes.
        "longshore:node-proxier": ("system:node-proxier", "system:nodes"),
    }
    found = {f"/apis/{RBAC}/v1/clusterrolebindings/{name}": _binding(name, *who) for name, who in bindings.items()}
    # Who joins asks whether its name is taken.
    reads = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    name = "kubeadm:get-nodes"
    reader = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": reads}
    found[f"/apis/{RBAC}/v1/clusterroles/{name}"] = reader
    name, rules = "kubeadm:bootstrap-signer-clusterinfo", {"apiGroups": [""], "resources": ["configmaps"]}
    public = {"name": name, "namespace": "kube-public"}
    rule = {**rules, "resourceNames": ["cluster-info"], "verbs": ["get"]}
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": public, "rules": [rule]}
    anybody = {"kind": "User", "apiGroup": RBAC, "name": "system:anonymous"}
    reference = {"kind": "Role", "apiGroup": RBAC, "name": name}
    binding = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": public}
    info = {"name": "cluster-info", "namespace": "kube-public"}
    below = f"/apis/{RBAC}/v1/namespaces/kube-public"
    return {
        **found,
        f"{below}/roles/{name}": role,
        f"{below}/rolebindings/{name}": {**binding, "roleRef": reference, "subjects": [anybody]},
        CLUSTER_INFO: {"apiVersion": "v1", "kind": "ConfigMap", "metadata": info, "data": {"kubeconfig": kubeconfig}},
    }


def check_cluster_info(data: dict[str, str], token: str) -> str:
    """The kubeconfig in it, once the token has proved it. Raises ControlPlaneError."""
    identifier, secret = parse_token(token)
    text, signature = data.get("kubeconfig", ""), data.get(f"jws-kubeconfig-{identifier}", "")
    if not text or not signature:
        fix = "it may be wrong or have expired; longshore control-plane token makes another"
        raise UnsignedError(f"cannot prove who the cluster is: it knows no token {identifier}; {fix}")
    header, _, rest = signature.partition(".")
    payload = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    wanted = hmac.digest(secret.encode(), f"{header}.{payload}".encode(), "sha256")
    try:
        found = base64.urlsafe_b64decode(rest.rpartition(".")[2] + "==")
    except (binascii.Error, ValueError):
        found = b""
    if not hmac.compare_digest(wanted, found):
        raise ControlPlaneError("cannot prove who the cluster is: its answer is not signed with this token")
    return text


def authority_pin(certificate: x509.Certificate) -> str:
    """`sha256:` and the digest of its public key, as kubeadm's --discovery-token-ca-cert-hash."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = certificate.public_key().public_bytes(serialization.Encoding.DER, form)
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def _binding(name: str, role: str, group: str) -> Json:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"kind": "ClusterRole", "apiGroup": RBAC, "name": role},
        "subjects": [{"kind": "Group", "apiGroup": RBAC, "name": group}],
    }
