"""One manifest file -> the Pod that runs: decoded strictly, defaulted, validated, given the identity of a static pod;
or the ConfigMap or Secret that pods refer to.

Pure.  Before: manifest_dir.py has the bytes.  Next: admission, then agent/pods.  Upstream refuses the same and names
pods the same; the uid has the kubelet's form (32 hexadecimal digits over node name, path and the decoded object) but
not its value, which depends on how Go prints its own structures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import cast

from lightkube.models import core_v1, meta_v1, node_v1

from agent.container_spec import labels
from agent.container_spec.pod_resources import qos_class
from agent.container_spec.resizable import without_resizable
from agent.sources.config_manifest import may_be_secret, parse_config_map, parse_secret, without_values
from agent.sources.defaults import apply_defaults
from agent.sources.runtime_class import KIND, parse_runtime_class
from agent.sources.support import unsupported_fields
from agent.sources.validation import validate_pod
from daemonkit.strict import field_path
from daemonkit.yaml_text import Document, Path
from kube_objects.config_data import ConfigData
from kube_objects.encode import to_json
from kube_objects.manifest import ManifestError, first_problem, read_document, read_single
from kube_objects.names import is_dns_subdomain

DEFAULT_NAMESPACE = "default"
_KINDS: Mapping[tuple[str, str], type] = {
    ("v1", "Pod"): core_v1.Pod,
    ("v1", "ConfigMap"): core_v1.ConfigMap,
    ("v1", "Secret"): core_v1.Secret,
    KIND: node_v1.RuntimeClass,
}
SOURCE = "file"


def parse_manifest(data: bytes, path: str, node_name: str) -> core_v1.Pod | ConfigData:
    """What a file of the manifest directory holds; `path` and `node_name` as for `parse_static_pod`.

    Raises ManifestError, which quotes nothing of a file that may be a Secret.
    """
    try:
        document = read_single(data, path)
        value = document.value
        named = (value.get("apiVersion"), value.get("kind")) if isinstance(value, dict) else None
        if named == ("v1", "ConfigMap"):
            return parse_config_map(document, path)
        if named == ("v1", "Secret"):
            return parse_secret(document, path)
        if named == KIND:
            return parse_runtime_class(document, path)
        return _static_pod(document, path, node_name)
    except ManifestError as error:
        if may_be_secret(data):
            raise without_values(error) from None
        raise


def parse_static_pod(data: bytes, path: str, node_name: str) -> core_v1.Pod:
    """The static pod of a manifest file.

    `path` is the file's absolute path: it is part of the identity.  `metadata.name` is suffixed with the node's name,
    `metadata.uid` and the annotation kubernetes.io/config.hash are the hash, kubernetes.io/config.source is "file".
    kubernetes.io/config.seen is not set here (`seen`): it is no part of the identity.  Raises ManifestError.
    """
    return _static_pod(read_single(data, path), path, node_name)


def _static_pod(document: Document, path: str, node_name: str) -> core_v1.Pod:
    pod = cast(core_v1.Pod, read_document(document, path, _KINDS))
    problems = list(unsupported_fields(document.value))
    if not problems:
        apply_defaults(pod)
        problems = list(validate_pod(pod))
    if problems:
        raise first_problem(problems, document, path)
    _set_identity(pod, path, node_name)
    _check_final_name(pod, document, path)
    return pod


def seen(pod: core_v1.Pod, time: str) -> core_v1.Pod:
    """Write down when the agent first saw this pod (RFC 3339, "" for nothing); the same object is returned."""
    if pod.metadata is not None and time:
        pod.metadata.annotations = {**(pod.metadata.annotations or {}), labels.CONFIG_SEEN: time}
    return pod


def full_name(pod: core_v1.Pod) -> str:
    """`NAMESPACE/NAME`, by which two files clash."""
    metadata = pod.metadata or meta_v1.ObjectMeta()
    return f"{metadata.namespace}/{metadata.name}"


def name_line(data: bytes, path: str) -> int | None:
    """The line of `metadata.name` in a manifest that `parse_static_pod` has accepted."""
    return read_single(data, path).line_of(("metadata", "name"))


def _set_identity(pod: core_v1.Pod, path: str, node_name: str) -> None:
    metadata, spec = pod.metadata, pod.spec
    assert metadata is not None  # noqa: S101 # validated
    assert spec is not None  # noqa: S101 # validated
    metadata.uid = static_pod_uid(pod, path, node_name)
    metadata.name = f"{metadata.name}-{node_name.lower()}"
    metadata.namespace = metadata.namespace or DEFAULT_NAMESPACE
    spec.nodeName = node_name
    metadata.annotations = {
        **(metadata.annotations or {}),
        labels.CONFIG_HASH: metadata.uid,
        labels.CONFIG_SOURCE: SOURCE,
    }
    spec.tolerations = [
        *(one for one in spec.tolerations or [] if not _tolerates_all_no_execute(one)),
        core_v1.Toleration(operator="Exists", effect="NoExecute"),
    ]
    pod.status = core_v1.PodStatus(phase="Pending")


def static_pod_uid(pod: core_v1.Pod, path: str, node_name: str) -> str:
    """32 hexadecimal digits: the same object at the same path on the same node always has the same.

    Hashed is the decoded and defaulted object, so that a comment or another order of keys does not restart the pod.
    Of the amounts that can be changed while it runs only the QoS class counts, which cannot.
    """
    whole = to_json(pod)
    lasting = without_resizable(whole)
    quality = "" if lasting == whole else f"qos:{qos_class(pod)}"
    content = json.dumps(lasting, sort_keys=True, separators=(",", ":"))
    text = f"{content}{quality}host:{node_name}file:{path}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _tolerates_all_no_execute(toleration: core_v1.Toleration) -> bool:
    return (
        toleration.operator == "Exists"
        and toleration.effect == "NoExecute"
        and not toleration.key
        and not toleration.value
    )


def _check_final_name(pod: core_v1.Pod, document: Document, path: str) -> None:
    name = (pod.metadata.name if pod.metadata else None) or ""
    problem = is_dns_subdomain(name)
    if problem:
        where: Path = ("metadata", "name")
        message = f"with the node's name it is {name!r}, which {problem}"
        raise ManifestError(path, message, field_path(where), document.line_of(where))
