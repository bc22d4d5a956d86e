"""What control planes of a cluster share: authorities and the service accounts' keys, encrypted in a Secret for two
hours, and the cluster's settings.  Pure.

Before: `longshore control-plane upload-certs` makes the objects.  Next: `longshore join --control-plane` takes them.
Names, roles and the form of the Secret are kubeadm's (its --upload-certs and --certificate-key); settings are ours.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from control_plane.bootstrap import JOINING, RBAC
from control_plane.errors import ControlPlaneError

Json = dict[str, Any]
SHARED = (
    "ca.crt", "ca.key", "etcd/ca.crt", "etcd/ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub",
)  # fmt: skip
"""Files below pki/."""
SETTINGS = ("service_cidr", "pod_cidr", "dns_domain", "kubernetes_version", "image_repository", "etcd_image",
            "control_plane_endpoint", "cert_sans")  # fmt: skip
"""Of ClusterSettings those that are the cluster's and no machine's."""
_SYSTEM = "/api/v1/namespaces/kube-system"
_SECRET_NAME, _CONFIG_NAME = "kubeadm-certs", "longshore-config"
SECRET = f"{_SYSTEM}/secrets/{_SECRET_NAME}"
CONFIG = f"{_SYSTEM}/configmaps/{_CONFIG_NAME}"
_KEY_BYTES, _NONCE_BYTES = 32, 12


def new_certificate_key() -> str:
    """Hexadecimal."""
    return secrets.token_bytes(_KEY_BYTES).hex()


def parse_certificate_key(text: str) -> bytes:
    """Raises ControlPlaneError."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ControlPlaneError(f"cannot use the certificate key: it is not {2 * _KEY_BYTES} hexadecimal digits")
    return key


def shared_objects(
    files: Mapping[str, bytes], settings: Mapping[str, Any], key: bytes, owner: Mapping[str, str]
) -> dict[str, Json]:
    """Path -> object.  `files`: as SHARED; `owner`: name and uid of the token's Secret, which takes the certificates
    with it when it expires.
    """
    cipher = AESGCM(key)
    data = {}
    for name in SHARED:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        data[_entry(name)] = base64.b64encode(nonce + cipher.encrypt(nonce, files[name], None)).decode()
    controller = {"apiVersion": "v1", "kind": "Secret", "controller": True, "blockOwnerDeletion": True, **owner}
    metadata = {"name": _SECRET_NAME, "namespace": "kube-system", "ownerReferences": [controller]}
    text = json.dumps({name: settings[name] for name in SETTINGS}, indent=1, sort_keys=True)
    config = {"name": _CONFIG_NAME, "namespace": "kube-system"}
    return {
        **_readable(f"kubeadm:{_SECRET_NAME}", "secrets", _SECRET_NAME),
        **_readable(f"longshore:{_CONFIG_NAME}", "configmaps", _CONFIG_NAME),
        CONFIG: {"apiVersion": "v1", "kind": "ConfigMap", "metadata": config, "data": {"settings": text}},
        SECRET: {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data},
    }


def open_certificates(secret: Json, key: bytes) -> dict[str, bytes]:
    """File below pki/ -> content.  Raises ControlPlaneError."""
    found = {}
    for name in SHARED:
        try:
            sealed = base64.b64decode(secret["data"][_entry(name)], validate=True)
            found[name] = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except InvalidTag:
            fix = "longshore control-plane upload-certs prints the one for what is there now"
            raise ControlPlaneError(
                f"cannot use the certificate key: it is another than that of the Secret; {fix}"
            ) from None
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise ControlPlaneError(
                f"cannot read Secret {_SECRET_NAME}: its {_entry(name)} is missing or damaged"
            ) from None
    return found


def shared_settings(config: Json) -> Json:
    """As keywords of ClusterSettings; the values are not checked.  Raises ControlPlaneError."""
    try:
        value = json.loads(config["data"]["settings"])
        return {**{name: value[name] for name in SETTINGS}, "cert_sans": tuple(value["cert_sans"])}
    except (KeyError, TypeError, ValueError):
        fix = "longshore control-plane upload-certs writes it"
        raise ControlPlaneError(
            f"cannot read ConfigMap {_CONFIG_NAME}: it has no settings of a cluster; {fix}"
        ) from None


def _readable(name: str, resource: str, one: str) -> dict[str, Json]:
    """A role and its binding, by which machines that join may get one object."""
    below = f"/apis/{RBAC}/v1/namespaces/kube-system"
    metadata = {"name": name, "namespace": "kube-system"}
    rule = {"apiGroups": [""], "resources": [resource], "resourceNames": [one], "verbs": ["get"]}
    reference = {"kind": "Role", "apiGroup": RBAC, "name": name}
    group = {"kind": "Group", "apiGroup": RBAC, "name": JOINING}
    head = {"apiVersion": f"{RBAC}/v1", "metadata": metadata}
    return {
        f"{below}/roles/{name}": {**head, "kind": "Role", "rules": [rule]},
        f"{below}/rolebindings/{name}": {**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [group]},
    }


def _entry(name: str) -> str:
    """A file's key in the Secret."""
    return name.replace("/", "-")
