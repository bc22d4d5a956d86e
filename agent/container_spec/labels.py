"""The labels and annotations by which a sandbox or container says whose it is: the kubelet's own keys.

Pure.  sandbox.py and container.py write them; agent/pods/observe reads them back with `parse_identity`, which is all
that a restarted agent needs to adopt what runs.  `crictl`, log shippers and cAdvisor look for the same keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from lightkube.models import core_v1

from agent.container_spec.hashing import container_hash
from agent.container_spec.resizable import container_digest
from kube_objects.encode import to_json

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"

POD_DELETION_GRACE_PERIOD = "io.kubernetes.pod.deletionGracePeriod"
POD_TERMINATION_GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"
CONTAINER_HASH = "io.kubernetes.container.hash"
CONTAINER_RESTART_COUNT = "io.kubernetes.container.restartCount"
CONTAINER_TERMINATION_MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
CONTAINER_TERMINATION_MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
CONTAINER_PORTS = "io.kubernetes.container.ports"
CONTAINER_PRESTOP_HANDLER = "io.kubernetes.container.preStopHandler"

# What it was made with: static pods keep their identity when CPU and memory change.
RESOURCES = "longshore.io/resources"

CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SEEN = "kubernetes.io/config.seen"
CONFIG_MIRROR = "kubernetes.io/config.mirror"

FILE_SOURCE = "file"
API_SOURCE = "api"


def config_source(pod: core_v1.Pod) -> str:
    """Where the pod comes from: FILE_SOURCE, API_SOURCE, or "" for what does not say."""
    return str(((pod.metadata.annotations if pod.metadata else None) or {}).get(CONFIG_SOURCE, ""))


def is_from_api(pod: core_v1.Pod | None) -> bool:
    """Whether the pod was made by way of an API server, which is told of its end before anything of it is removed."""
    return pod is not None and config_source(pod) == API_SOURCE


def pod_labels(pod: core_v1.Pod) -> dict[str, str]:
    """The labels that name the pod, on its sandbox and on each of its containers."""
    metadata = pod.metadata
    if metadata is None:
        return {}
    return {
        POD_NAME: metadata.name or "",
        POD_NAMESPACE: metadata.namespace or "",
        POD_UID: metadata.uid or "",
    }


def container_labels(pod: core_v1.Pod, container: core_v1.Container) -> dict[str, str]:
    """The labels of a container; the pod's own labels are on the sandbox only, as the kubelet has it."""
    return {**pod_labels(pod), CONTAINER_NAME: container.name}


def container_annotations(pod: core_v1.Pod, container: core_v1.Container, restart_count: int) -> dict[str, str]:
    """What a restarted agent must know of a container and cannot see otherwise."""
    annotations = {
        CONTAINER_HASH: container_hash(container),
        CONTAINER_RESTART_COUNT: str(restart_count),
        RESOURCES: container_digest(pod, container),
        CONTAINER_TERMINATION_MESSAGE_PATH: container.terminationMessagePath or "",
        CONTAINER_TERMINATION_MESSAGE_POLICY: container.terminationMessagePolicy or "",
    }
    deletion_grace_s = pod.metadata.deletionGracePeriodSeconds if pod.metadata else None
    if deletion_grace_s is not None:
        annotations[POD_DELETION_GRACE_PERIOD] = str(deletion_grace_s)
    grace_s = pod.spec.terminationGracePeriodSeconds if pod.spec else None
    if grace_s is not None:
        annotations[POD_TERMINATION_GRACE_PERIOD] = str(grace_s)
    if container.ports:
        ports = [_in_go_order(to_json(port)) for port in container.ports]
        annotations[CONTAINER_PORTS] = json.dumps(ports, separators=(",", ":"))
    if container.lifecycle and container.lifecycle.preStop:
        annotations[CONTAINER_PRESTOP_HANDLER] = json.dumps(to_json(container.lifecycle.preStop), separators=(",", ":"))
    return annotations


def _in_go_order(port: dict[str, object]) -> dict[str, object]:
    order = ("name", "hostPort", "containerPort", "protocol", "hostIP")
    return {field: port[field] for field in order if port.get(field)}


@dataclass(frozen=True)
class Identity:
    """Whose sandbox or container this is.

    For a sandbox `container` is empty.  `restart_count` and `container_hash` come from the annotations and are 0 and
    "" where absent or unreadable; `grace_s` is the pod's termination grace period, None where it is not written down.
    """

    pod_uid: str
    pod_name: str
    pod_namespace: str
    container: str = ""
    restart_count: int = 0
    container_hash: str = ""
    grace_s: int | None = None
    termination_message_path: str = ""
    termination_message_policy: str = "File"


def parse_identity(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Identity | None:
    """Read an identity back.

    None when the labels do not name a pod, i.e. the thing was not made by a Kubernetes node agent.
    """
    uid, name, namespace = labels.get(POD_UID, ""), labels.get(POD_NAME, ""), labels.get(POD_NAMESPACE, "")
    if not (uid and name and namespace):
        return None
    return Identity(
        pod_uid=uid,
        pod_name=name,
        pod_namespace=namespace,
        container=labels.get(CONTAINER_NAME, ""),
        restart_count=_number(annotations.get(CONTAINER_RESTART_COUNT)) or 0,
        container_hash=annotations.get(CONTAINER_HASH, ""),
        grace_s=_number(annotations.get(POD_TERMINATION_GRACE_PERIOD)),
        termination_message_path=annotations.get(CONTAINER_TERMINATION_MESSAGE_PATH, ""),
        termination_message_policy=annotations.get(CONTAINER_TERMINATION_MESSAGE_POLICY, "File"),
    )


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def uid_of(pod: core_v1.Pod) -> str:
    """The pod's UID, "" while it has none."""
    return (pod.metadata.uid if pod.metadata is not None else None) or ""


def generation_of(pod: core_v1.Pod) -> int:
    """Which definition of the pod this is, 0 where nobody counts them."""
    return (pod.metadata.generation if pod.metadata is not None else None) or 0
