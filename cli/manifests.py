"""Manifests between a person and the daemons' directories: whose they are, whether they are good, where they lie.

Before: `cli.apply` and `cli.delete` have bytes or names. Reads the directories; validation is the daemons' own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click

from agent.sources.config_manifest import may_be_secret, without_values
from agent.sources.manifest import parse_manifest as parse_agent_manifest
from cli.failure import BAD_MANIFEST, Failure
from cli.target import Target
from daemonkit.watch_dir import MAX_FILE_BYTES, accept_manifest
from daemonkit.yaml_text import TextError, parse_documents
from kube_objects.manifest import ManifestError, read_document, read_single
from proxy.sources.manifest import parse_manifest

_ANYTHING = cast(type, dict[str, Any])  # for the moment when only the kind is looked at
MANIFEST = click.Path(exists=True, dir_okay=False, allow_dash=True)
POD, CONFIG_MAP, SECRET = "pod", "configmap", "secret"
SERVICE, SLICE = "service", "endpointslice"
_KINDS = {
    ("v1", "Pod"): POD, ("v1", "ConfigMap"): CONFIG_MAP, ("v1", "Secret"): SECRET, ("v1", "Service"): SERVICE,
    ("discovery.k8s.io/v1", "EndpointSlice"): SLICE,
}  # fmt: skip
_AGENT_KINDS = (POD, CONFIG_MAP, SECRET)
ALIASES = {
    "po": POD, "pod": POD, "pods": POD, "cm": CONFIG_MAP, "configmap": CONFIG_MAP, "configmaps": CONFIG_MAP,
    "secret": SECRET, "secrets": SECRET, "svc": SERVICE, "service": SERVICE, "services": SERVICE,
    "endpointslice": SLICE, "endpointslices": SLICE,
}  # fmt: skip


@dataclass(frozen=True, order=True)
class ObjectName:
    """What a manifest is about."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class StoredManifest:
    """A file of a manifest directory; `name` is None where it cannot be told."""

    path: Path
    name: ObjectName | None
    data: bytes


def read_manifest(file: str) -> tuple[bytes, str]:
    """The bytes of a file, "-" being stdin, and what to call it in messages. Raises Failure."""
    source = "standard input" if file == "-" else file
    try:
        with click.open_file(file, "rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1), source
    except OSError as error:
        raise Failure(f"cannot read {source}: {error.strerror}") from None


def identify(data: bytes, source: str) -> ObjectName:
    """Kind, namespace and name of the only object in `data`. Raises Failure for what no daemon takes."""
    try:
        document = read_single(data, source)
        found = _name_of(document.value)
        if found is None:
            read_document(document, source, dict.fromkeys(_KINDS, _ANYTHING))
            raise ManifestError(source, "required field is missing", "metadata.name", document.line_of(("metadata",)))
    except ManifestError as error:
        shown = without_values(error) if may_be_secret(data) else error
        raise Failure(str(shown), BAD_MANIFEST) from None
    return found


def validate(data: bytes, name: ObjectName, path: Path, source: str, node_name: str) -> None:
    """What the daemon itself would do with the file at `path`. Raises Failure that names `source`."""
    try:
        if name.kind in _AGENT_KINDS:
            parse_agent_manifest(data, str(path), node_name)
        else:
            parse_manifest(data, str(path))
    except ManifestError as error:
        raise Failure(str(ManifestError(source, error.message, error.field, error.line)), BAD_MANIFEST) from None


def directory_of(target: Target, kind: str) -> Path:
    """Where manifests of that kind lie."""
    return target.pods_dir() if kind in _AGENT_KINDS else target.services_dir()


def stored(directory: Path) -> Iterator[StoredManifest]:
    """All manifests of a directory; nothing where there is none. Raises Failure where it cannot be listed."""
    try:
        paths = sorted(path for path in directory.iterdir() if accept_manifest(path.name) and path.is_file())
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failure(f"cannot read {directory}: {error.strerror}") from None
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            documents = parse_documents(data)
        except (OSError, TextError):
            yield StoredManifest(path, None, b"")
            continue
        yield StoredManifest(path, _name_of(documents[0].value) if documents else None, data)


def node_name(target: Target) -> str:
    """The agent's node name; the host's where the agent does not answer."""
    return str(target.agent_status().get("nodeName") or socket.gethostname().lower())


def _name_of(value: object) -> ObjectName | None:
    if not isinstance(value, dict):
        return None
    kind = _KINDS.get((str(value.get("apiVersion")), str(value.get("kind"))))
    metadata = value.get("metadata")
    if kind is None or not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return None
    namespace = metadata.get("namespace")
    return ObjectName(kind, namespace if isinstance(namespace, str) and namespace else "default", metadata["name"])
