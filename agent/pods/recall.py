"""What of a pod's memory goes to disk, and the memory that the next agent makes of it. Pure.

Before: `record_saver` wants the record of a pod, or agent/state_dir has read one. Next: the one writes it, `workers`
gives the memory to the pod's worker.
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
from kube_objects.encode import to_json


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


def to_record(memory: PodMemory, probes: dict[str, object]) -> PodRecord:
    """What goes to disk: all that cannot be read back from the runtime. `probes` is the prober's dump for this pod."""
    return PodRecord(
        uid=memory.uid,
        namespace=memory.namespace,
        name=memory.name,
        start_time_s=memory.start_time_s,
        boot_id=memory.boot_id,
        outcome=memory.outcome,
        status=memory.settled,
        stop_deadline_s=memory.stop_deadline_s,
        interrupted=sorted(memory.interrupted),
        attempts=dict(memory.attempts_used),
        ends=dict(memory.ends),
        allocation=memory.amounts.allocation or {},
        resized=dict(memory.amounts.given),
        ephemeral_containers=[to_json(one) for one in memory.ephemerals],
        backoff={name: (entry.delay_s, entry.last_update_s) for name, entry in memory.backoff.items()},
        probes=probes,
        transitions={
            one.type: (one.status, one.lastTransitionTime.timestamp())
            for one in (memory.status.conditions if memory.status is not None else None) or ()
            if one.lastTransitionTime is not None
        },
        timeline=memory.timeline.parts(),
        source=memory.source,
        admitted=memory.admitted or memory.was_admitted,
        preempted=memory.preempted,
    )
