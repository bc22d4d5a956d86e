"""What the runtime says it can do, from its answers to Status and Version.

Pure.  Before: runtime_wait.py asks once at the start.  Next: NodeFacts, where admission looks.  What is not ready is
asked again by agent/cluster/node_look and agent/pods/pod_network.  Sources: KEP-3619
(groups), KEP-127 (user namespaces), KEP-3857 (recursive read-only mounts), KEP-4639 (image volumes, which no answer
tells of: the releases that have them are in its text).
"""

from __future__ import annotations

import re

from agent.container_spec.facts import HandlerFacts, RuntimeFacts
from cri_client.types import RuntimeCondition, StatusResponse, VersionResponse

_IMAGE_VOLUMES = {"containerd": (2, 1), "cri-o": (1, 31)}


def runtime_facts(answer: StatusResponse, version: VersionResponse) -> RuntimeFacts:
    """The features of the runtime and of each of its handlers."""
    return RuntimeFacts(
        image_volumes=_release(version) >= _IMAGE_VOLUMES.get(version.runtime_name.lower(), ()),
        strict_groups=answer.features is not None and answer.features.supplemental_groups_policy,
        handlers={
            one.name: HandlerFacts(one.features.recursive_read_only_mounts, one.features.user_namespaces)
            for one in answer.runtime_handlers
            if one.features is not None
        },
    )


def not_ready(answer: StatusResponse) -> dict[str, str]:
    """What is wrong, by condition (`RuntimeReady`, `NetworkReady`), in the kubelet's words."""
    known = {one.type: one for one in answer.status.conditions} if answer.status is not None else {}
    found = {}
    for name, what in (("RuntimeReady", "container runtime"), ("NetworkReady", "container runtime network")):
        one = known.get(name)
        if one is None or not one.status:
            found[name] = f"{what} not ready: {_told(one)}"
    return found


def network_problem(answer: StatusResponse) -> str:
    """Why pods have no network, "" where they have."""
    return not_ready(answer).get("NetworkReady", "")


def _told(one: RuntimeCondition | None) -> str:
    if one is None:
        return "nothing is said of it"
    return f"{one.type}={str(one.status).lower()} reason:{one.reason} message:{one.message}"


def _release(version: VersionResponse) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.runtime_version)[:2]))
