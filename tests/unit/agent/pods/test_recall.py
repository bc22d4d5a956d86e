"""What an agent writes down of a pod is all that the next one knows of it: no field is lost on the way."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent.pods.recall import recall, to_record
from agent.state_dir import PodRecord, StateDir

FULL = PodRecord(
    uid="uid-1",
    namespace="default",
    name="web",
    start_time_s=1_700_000_000.0,
    boot_id="boot",
    outcome="Failed",
    status={"phase": "Failed"},
    stop_deadline_s=1_700_000_030.0,
    interrupted=["c1", "c2"],
    attempts={"": 2, "web": 3},
    ends={"web": {"exitCode": 3}},
    allocation={"web": {"requests": {"cpu": "1"}}},
    resized={"c1": "digest"},
    ephemeral_containers=[{"name": "debug", "image": "busybox"}],
    backoff={"web": (20.0, 1_700_000_010.0)},
    probes={"web": {"ready": True}},
    transitions={"Ready": ("False", 1_700_000_020.0)},
    timeline=[("seen", "", 1, 1_700_000_000.0, 1_700_000_000.0, 1)],
    source="api",
    admitted=True,
    preempted=True,
)


def test_every_field_comes_back(tmp_path: Path) -> None:
    defaults = msgspec.structs.asdict(PodRecord(uid=""))
    same = [name for name, value in msgspec.structs.asdict(FULL).items() if value == defaults[name]]
    assert same == [], "a new field is to be set here, or it could be lost unnoticed"
    state = StateDir(tmp_path)
    state.write_record(FULL)
    found = state.load_records()["uid-1"]
    assert found == FULL
    assert to_record(recall(found, "boot", 300.0), FULL.probes) == FULL


def test_another_boot_forgets_the_back_off_alone() -> None:
    again = to_record(recall(FULL, "boot-2", 300.0), FULL.probes)
    assert again == msgspec.structs.replace(FULL, boot_id="boot-2", backoff={})
