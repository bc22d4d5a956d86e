"""The memory of a pod that an earlier agent wrote down: the other half of `PodMemory.record`. No I/O.

Before: agent/state_dir has read the pod's record. Next: `workers` gives the memory to the pod's worker.
"""

from __future__ import annotations

import datetime

import msgspec
from lightkube.models.core_v1 import EphemeralContainer, PodCondition, PodStatus

from agent.pods.amounts import Amounts
from agent.pods.backoff import BackoffEntry
from agent.pods.memory import PodMemory
from agent.pods.timeline import Timeline
from agent.state_dir import PodRecord, backoff_notes


def recall(record: PodRecord, boot_id: str, crash_loop_max_s: float) -> PodMemory:
    """The memory an earlier agent left."""
    conditions = [
        PodCondition(
            type=kind, status=value, lastTransitionTime=datetime.datetime.fromtimestamp(int(at_s), datetime.UTC)
        )
        for kind, (value, at_s) in record.transitions.items()
    ]
    return PodMemory(
        uid=record.uid,
        boot_id=boot_id,
        start_time_s=record.start_time_s,
        crash_loop_max_s=crash_loop_max_s,
        namespace=record.namespace,
        name=record.name,
        outcome=record.outcome,
        settled=record.status,
        stop_deadline_s=record.stop_deadline_s,
        interrupted=set(record.interrupted),
        amounts=Amounts(allocation=record.allocation or None, given=dict(record.resized)),
        attempts_used=dict(record.attempts),
        ends=dict(record.ends),
        ephemerals=[msgspec.convert(one, EphemeralContainer) for one in record.ephemeral_containers],
        backoff={name: BackoffEntry(*entry) for name, entry in backoff_notes(record, boot_id).items()},
        status=PodStatus(conditions=conditions) if conditions else None,
        probes=record.probes,
        timeline=Timeline(record.timeline),
        source=record.source,
        was_admitted=record.admitted,
        preempted=record.preempted,
    )
