"""What the runtime says it can do, from its answers to Status and Version.

Pure.  Before: runtime_wait.py asks once at the start.  Next: NodeFacts, where admission looks.  Sources: KEP-3619
(groups), KEP-127 (user namespaces), KEP-3857 (recursive read-only mounts), KEP-4639 (image volumes, which no answer
tells of: the releases that have them are in its text).
"""

from __future__ import annotations

import re

from agent.container_spec.facts import HandlerFacts, RuntimeFacts
from cri_client.types import StatusResponse, VersionResponse

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


def _release(version: VersionResponse) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.runtime_version)[:2]))
