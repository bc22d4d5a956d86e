"""Which credentials a registry may be shown for an image: those whose pattern fits its name, the closest first.

Pure.  Before: pull secrets of the pod, files of the node, answers of credential provider plugins (plugins.py).  Next:
puller.py tries them in order.  No value is ever part of a message.  Sources: Kubernetes documentation, "Interpretation
of config.json" and "Kubelet credential provider"; Docker's config.json.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from lightkube.models import core_v1

from agent.images.names import parse_image_name
from cri_client.types import AuthConfig
from kube_objects.config_data import SECRET, ConfigData, ConfigObjects

_HUB = frozenset({"index.docker.io", "docker.io", "registry-1.docker.io"})
_SECRET_KEYS = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}


@dataclass(frozen=True)
class SecretSource:
    """The Secret that a credential is from; `uid` is "" where its manifest says none."""

    uid: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Credential:
    """What to show to the registries that `pattern` names (`*.example.com:443/path`).

    `source` is None for what the node itself knows: then every pod of the node may use what was pulled with it.
    `digest` tells two credentials apart without being one (the kubelet's hash of an AuthConfig).
    """

    pattern: str
    auth: AuthConfig = field(repr=False)
    source: SecretSource | None = None
    digest: str = field(default="", repr=False)


class CredentialError(ValueError):
    """A file or answer holds no credentials; the text says why without quoting any of it."""


def matching(credentials: Iterable[Credential], image: str) -> tuple[Credential, ...]:
    """What to try for an image name, the most specific pattern first; the same credentials of one source once."""
    name = parse_image_name(image)
    fitting = [one for one in credentials if fits(one.pattern, name.host, name.path)]
    fitting.sort(key=lambda one: _rank(one.pattern), reverse=True)
    return tuple({(one.auth, one.source): one for one in reversed(fitting)}.values())[::-1]


def fits(pattern: str, host: str, path: str) -> bool:
    """Whether a pattern names the registry of an image: host part by part with globs, the same port, path as prefix."""
    try:
        wanted_host, wanted_port, wanted_path = _parts(pattern)
        found_host, found_port, _ = _parts(host)
    except ValueError:  # no place at all
        return False
    if wanted_host in _HUB and found_host in _HUB:
        found_host = wanted_host
    wanted, found = wanted_host.split("."), found_host.split(".")
    if wanted_port != found_port or len(wanted) != len(found):
        return False
    if not all(fnmatchcase(part, glob) for part, glob in zip(found, wanted, strict=True)):
        return False
    return not wanted_path or path == wanted_path or path.startswith(wanted_path.rstrip("/") + "/")


def parse_docker_config(text: bytes, *, legacy: bool = False) -> tuple[Credential, ...]:
    """The credentials of a config.json (`legacy`: of a .dockercfg).  Raises CredentialError."""
    try:
        whole = json.loads(text)
    except ValueError:
        raise CredentialError("is not JSON") from None
    entries = whole if legacy else (whole.get("auths") or {} if isinstance(whole, dict) else None)
    if not isinstance(entries, dict):
        raise CredentialError("has no mapping of registries to credentials")
    return tuple(_credential(registry, entry) for registry, entry in sorted(entries.items()))


def pull_secrets(pod: core_v1.Pod, objects: ConfigObjects) -> tuple[tuple[Credential, ...], tuple[str, ...]]:
    """The credentials of the pod's imagePullSecrets, and a complaint for each that is of no use."""
    credentials: list[Credential] = []
    complaints: list[str] = []
    namespace = (pod.metadata.namespace if pod.metadata else None) or ""
    for reference in (pod.spec.imagePullSecrets if pod.spec else None) or []:
        secret = objects.find(SECRET, namespace, reference.name or "")
        try:
            credentials += _of_secret(secret)
        except CredentialError as error:
            complaints.append(f"cannot use pull secret {namespace}/{reference.name}: {error}")
    return tuple(credentials), tuple(complaints)


def _of_secret(secret: ConfigData | None) -> tuple[Credential, ...]:
    if secret is None:
        raise CredentialError("there is no such Secret")
    key = _SECRET_KEYS.get(secret.type)
    if key is None:
        raise CredentialError(f"its type {secret.type!r} is not one of {', '.join(_SECRET_KEYS)}")
    if key not in secret.data:
        raise CredentialError(f"it has no key {key}")
    source = SecretSource(secret.uid, secret.namespace, secret.name)
    found = parse_docker_config(secret.data[key], legacy=key == ".dockercfg")
    return tuple(dataclasses.replace(one, source=source) for one in found)


def _credential(registry: str, entry: object) -> Credential:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise CredentialError("has an entry that is no mapping of strings")
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise CredentialError("has an auth that is not base64") from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise CredentialError("has an auth that is not USER:PASSWORD")
    # No server_address: runtimes show a credential only to exactly that host, and a pattern is none.
    auth = AuthConfig(
        username=username,
        password=password.rstrip("\0"),
        identity_token=entry.get("identitytoken", ""),
        registry_token=entry.get("registrytoken", ""),
    )
    return Credential(registry, auth, digest=_digest(auth, entry.get("email", "")))


def _digest(auth: AuthConfig, email: str) -> str:
    """The kubelet's: SHA-256 of the fields that are set, as Go writes them in JSON."""
    fields = {
        "username": auth.username,
        "password": auth.password,
        "email": email,
        "identitytoken": auth.identity_token,
        "registrytoken": auth.registry_token,
    }
    text = json.dumps(
        {name: value for name, value in fields.items() if value}, ensure_ascii=False, separators=(",", ":")
    )
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def plugin_credentials(auth: Mapping[str, tuple[str, str]]) -> tuple[Credential, ...]:
    """Of a plugin's answer: pattern -> (user name, password)."""
    return tuple(
        Credential(pattern, AuthConfig(username=username, password=password))
        for pattern, (username, password) in auth.items()
    )


def _parts(text: str) -> tuple[str, str, str]:
    split = urlsplit(text if "://" in text else f"//{text}")
    host, _, port = split.netloc.rpartition("@")[2].partition(":")
    path = split.path[3:] if split.path.startswith(("/v1/", "/v2/")) else split.path
    return host, port, path.strip("/")


def _rank(pattern: str) -> tuple[int, int, str]:
    """Longer paths first, then hosts with fewer globs."""
    host, _, path = _parts(pattern)
    return len(path), -host.count("*"), pattern
