"""RuntimeClasses that lie as manifests beside the pods: their handler, their overhead, the nodes they are for.

Pure.  Before: manifest.py has found the kind.  Next: manifest_feed gives pods the overhead, as an API server would;
agent/pods/execute names the handler to the runtime.  Kept among the local objects (`ConfigObjects`), so that a pod
whose class comes later goes on by itself.  Source: KEP-585, node.k8s.io/v1.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import cast

from lightkube.models import core_v1, meta_v1, node_v1

from agent.sources.validation import validate_metadata
from agent.sources.validation_resources import validate_quantity
from daemonkit.yaml_text import Document, Path
from kube_objects.config_data import RUNTIME_CLASS, ConfigData, ConfigObjects
from kube_objects.manifest import first_problem, read_document
from kube_objects.names import is_dns_label

KIND = ("node.k8s.io/v1", "RuntimeClass")


def parse_runtime_class(document: Document, path: str) -> ConfigData:
    """The RuntimeClass of a document. Raises ManifestError."""
    found = cast(node_v1.RuntimeClass, read_document(document, path, {KIND: node_v1.RuntimeClass}))
    problems = list(_problems(found))
    if problems:
        raise first_problem(problems, document, path)
    scheduling = found.scheduling or node_v1.Scheduling()
    data = {
        "handler": found.handler.encode(),
        "overhead": json.dumps(found.overhead.podFixed if found.overhead else None, sort_keys=True).encode(),
        "nodeSelector": json.dumps(scheduling.nodeSelector, sort_keys=True).encode(),
    }
    return ConfigData(RUNTIME_CLASS, "", (found.metadata.name if found.metadata else None) or "", data)


def _problems(found: node_v1.RuntimeClass) -> Iterator[tuple[Path, str]]:
    metadata = found.metadata or meta_v1.ObjectMeta()
    yield from validate_metadata(metadata)
    if metadata.namespace:
        yield ("metadata", "namespace"), "a RuntimeClass has no namespace"
    if problem := is_dns_label(found.handler):
        yield ("handler",), problem
    for name, amount in ((found.overhead.podFixed if found.overhead else None) or {}).items():
        yield from validate_quantity(str(amount), ("overhead", "podFixed", name))


def with_runtime_class(pod: core_v1.Pod, objects: ConfigObjects) -> core_v1.Pod:
    """The pod with the overhead and the node selector of its class; the same object where it has none."""
    name = pod.spec.runtimeClassName if pod.spec else None
    found = objects.find(RUNTIME_CLASS, "", name) if name else None
    if found is None or pod.spec is None:
        return pod
    changed, spec = copy.copy(pod), copy.copy(pod.spec)
    changed.spec = spec
    spec.overhead = json.loads(found.data["overhead"])
    selector = json.loads(found.data["nodeSelector"])
    if selector:
        spec.nodeSelector = {**(spec.nodeSelector or {}), **selector}
    return changed


def handler_of(pod: core_v1.Pod, objects: ConfigObjects) -> str | None:
    """The handler the pod's sandbox is made with: "" is the runtime's default, None an absent RuntimeClass."""
    name = pod.spec.runtimeClassName if pod.spec else None
    if not name:
        return ""
    found = objects.find(RUNTIME_CLASS, "", name)
    return None if found is None else found.data["handler"].decode()
