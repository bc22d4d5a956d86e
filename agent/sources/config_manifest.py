"""One manifest file -> the ConfigMap or Secret that pods of this node may refer to: decoded strictly and validated.

Pure.  Before: manifest.py has found the kind.  Next: manifest_dir.py keeps it, agent/container_spec and agent/volumes
use it.  No message quotes a value, because a Secret's would be one.  Sources: the constraints in the API reference of
ConfigMap and Secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias, cast

from lightkube.models import core_v1, meta_v1

from agent.sources.validation import validate_metadata
from daemonkit.yaml_text import Document, Path
from kube_objects.config_data import CONFIG_MAP, SECRET, ConfigData
from kube_objects.encode import to_json
from kube_objects.manifest import ManifestError, first_problem, read_document, read_single
from kube_objects.names import is_config_key

OPAQUE = "Opaque"
_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105 - a type of Secrets
_REQUIRED = {
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_JSON_KEYS = (".dockerconfigjson", ".dockercfg")
_MAY_BE_SECRET = re.compile(rb"kind[\"']?\s*:\s*[\"']?secret", re.IGNORECASE)
_IDENTITY = {"name", "namespace", "labels", "annotations"}
_BOOKKEEPING = {
    "creationTimestamp", "generation", "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
}  # fmt: skip

Problem: TypeAlias = tuple[Path, str]


def may_be_secret(data: bytes) -> bool:
    """Whether a file that cannot be read looks like a Secret: then nothing of it may be quoted."""
    return _MAY_BE_SECRET.search(data) is not None


def without_values(error: ManifestError) -> ManifestError:
    """The same error in words that quote no value of the file."""
    message = error.message.partition(", not ")[0]
    if not error.field and not message.startswith(("file is", "holds ", "required field")):
        message = "not valid YAML or JSON"
    return ManifestError(error.path, message, error.field, error.line)


def parse_config_map(document: Document, path: str) -> ConfigData:
    """The ConfigMap of a document. Raises ManifestError."""
    found = cast(core_v1.ConfigMap, read_document(document, path, {("v1", "ConfigMap"): core_v1.ConfigMap}))
    texts = found.data or {}
    problems = list(_metadata(found.metadata))
    data = {name: str(text).encode() for name, text in texts.items()}
    binary = _decoded(found.binaryData or {}, "binaryData", problems)
    problems += [
        (("binaryData", name), "is in data, too: a key must be in one of them") for name in binary.keys() & data.keys()
    ]
    problems += [(("data", name), problem) for name in data if (problem := is_config_key(name))]
    problems += [(("binaryData", name), problem) for name in binary if (problem := is_config_key(name))]
    if problems:
        raise first_problem(problems, document, path)
    return ConfigData(CONFIG_MAP, *_names(found.metadata), data, binary, "", bool(found.immutable))


def parse_secret(document: Document, path: str) -> ConfigData:
    """The Secret of a document; stringData goes over data, as in an API server. Raises ManifestError."""
    try:
        found = cast(core_v1.Secret, read_document(document, path, {("v1", "Secret"): core_v1.Secret}))
    except ManifestError as error:
        raise without_values(error) from None
    problems = list(_metadata(found.metadata))
    data = _decoded(found.data or {}, "data", problems)
    problems += [(("data", name), problem) for name in data if (problem := is_config_key(name))]
    texts = found.stringData or {}
    problems += [(("stringData", name), problem) for name in texts if (problem := is_config_key(name))]
    data |= {name: str(text).encode() for name, text in texts.items()}
    kind = found.type or OPAQUE
    problems += _of_type(kind, data)
    if problems:
        raise first_problem(problems, document, path)
    uid = (found.metadata.uid if found.metadata else None) or ""
    return ConfigData(SECRET, *_names(found.metadata), data, {}, kind, bool(found.immutable), uid)


def check_immutable(now: ConfigData, before: ConfigData | None, data: bytes, path: str) -> None:
    """Refuse a change of what was declared immutable (`before`): only removing the file ends that.

    Raises ManifestError.
    """
    if before is None or now == before:
        return
    changed = "immutable" if not now.immutable else "type" if now.type != before.type else "data"
    line = read_single(data, path).line_of((changed,))
    raise ManifestError(path, "cannot be changed: the object is immutable", changed, line)


def _metadata(metadata: meta_v1.ObjectMeta | None) -> Iterator[Problem]:
    found = metadata or meta_v1.ObjectMeta()
    yield from validate_metadata(found)
    for name in sorted(to_json(found).keys() - _IDENTITY - _BOOKKEEPING):
        yield ("metadata", name), "not supported yet"
    if found.uid and not found.uid.isprintable():
        yield ("metadata", "uid"), "must be printable text"


def _names(metadata: meta_v1.ObjectMeta | None) -> tuple[str, str]:
    found = metadata or meta_v1.ObjectMeta()
    return found.namespace or "default", found.name or ""


def _decoded(values: Mapping[str, object], field: str, problems: list[Problem]) -> dict[str, bytes]:
    data: dict[str, bytes] = {}
    for name, text in values.items():
        try:
            data[name] = base64.b64decode("".join(str(text).split("\n")), validate=True)
        except (binascii.Error, ValueError):
            problems.append(((field, name), "must be base64"))
            data[name] = b""
    return data


def _of_type(kind: str, data: Mapping[str, bytes]) -> Iterator[Problem]:
    if kind == _TOKEN:
        yield ("type",), f"{_TOKEN} needs an API server"
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        yield ("data",), f"a Secret of type {kind} must have the key username or password"
    for name in _REQUIRED.get(kind, ()):
        if name not in data:
            yield ("data",), f"a Secret of type {kind} must have the key {name}"
        elif name in _JSON_KEYS and not _is_json_object(data[name]):
            yield ("data", name), "must be a JSON object"


def _is_json_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False
