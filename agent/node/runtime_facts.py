"""What the runtime says it can do, from its answer to Status.

Pure.  Before: daemon.py asks once at the start.  Next: NodeFacts, where admission looks.  Sources: KEP-3619 (groups),
KEP-127 (user namespaces), KEP-3857 (recursive read-only mounts).
"""

from __future__ import annotations

from agent.container_spec.facts import HandlerFacts, RuntimeFacts
from cri_client.types import StatusResponse


def runtime_facts(answer: StatusResponse) -> RuntimeFacts:
    """The features of the runtime and of each of its handlers."""
    return RuntimeFacts(
        strict_groups=answer.features is not None and answer.features.supplemental_groups_policy,
        handlers={
            one.name: HandlerFacts(one.features.recursive_read_only_mounts, one.features.user_namespaces)
            for one in answer.runtime_handlers
            if one.features is not None
        },
    )
