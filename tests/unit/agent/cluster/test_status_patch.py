"""The smallest patch of a pod's status: merged into what the server has, it gives what is so; and then it is empty."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.api_pod import without_empty
from agent.cluster.status_patch import LOST, is_urgent, status_patch
from tests.unit.agent.cluster.fake_pods_api import merge


def condition(kind: str, status: str, at: str = "2026-11-28T00:00:00Z", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "lastTransitionTime": at, **more}


def test_nothing_is_written_when_only_times_differ() -> None:
    known = {"phase": "Running", "startTime": "2026-11-28T00:00:00Z", "conditions": [condition("Ready", "True")]}
    ours = {
        **known,
        "startTime": "2026-11-28T01:00:00Z",
        "conditions": [condition("Ready", "True", "2027-01-01T00:00:00Z")],
    }
    assert status_patch(ours, known) == {}


def test_conditions_of_others_are_left_alone_and_ours_that_are_over_go() -> None:
    theirs = [condition("example.com/gate", "True"), condition("DisruptionTarget", "True")]
    known = {"conditions": [*theirs, condition("PodResizePending", "True")]}
    patch = status_patch({"conditions": [condition("Ready", "True")]}, known)
    assert patch == {"conditions": [condition("Ready", "True"), {"$patch": "delete", "type": "PodResizePending"}]}
    merged = merge(known, patch)
    assert [one["type"] for one in merged["conditions"]] == ["example.com/gate", "DisruptionTarget", "Ready"]


def test_a_reason_that_is_over_is_taken_away_and_the_time_of_the_same_status_stays() -> None:
    before = condition("Ready", "False", reason="ContainersNotReady", message="containers with unready status: [a b]")
    after = condition("Ready", "False", "2027-01-01T00:00:00Z", message="containers with unready status: [a]")
    (patched,) = status_patch({"conditions": [after]}, {"conditions": [before]})["conditions"]
    assert patched["reason"] is None
    assert patched["lastTransitionTime"] == before["lastTransitionTime"]
    (turned,) = status_patch(
        {"conditions": [condition("Ready", "True", "2027-01-01T00:00:00Z")]}, {"conditions": [before]}
    )["conditions"]
    assert turned["lastTransitionTime"] == "2027-01-01T00:00:00Z"


def test_addresses_are_replaced_and_not_added_to() -> None:
    patch = status_patch({"podIPs": [{"ip": "10.0.0.2"}]}, {"podIPs": [{"ip": "10.0.0.1"}]})
    assert patch["podIPs"] == [{"$patch": "replace"}, {"ip": "10.0.0.2"}]
    assert status_patch({}, {"podIP": "10.0.0.1"}) == {"podIP": None}


def test_what_somebody_may_wait_for_is_urgent() -> None:
    pending = {"phase": "Pending", "conditions": [condition("Ready", "False")]}
    assert is_urgent({"phase": "Running"}, pending)
    assert is_urgent({"conditions": [condition("Ready", "True")]}, pending)
    assert not is_urgent({"conditions": [condition("Ready", "True")]}, pending, deleting=True)
    assert is_urgent({"containerStatuses": []}, {"phase": "Succeeded"})
    assert not is_urgent({"conditions": [condition("Ready", "False", message="other words")]}, pending)
    assert not is_urgent({"podIP": "10.0.0.1", "conditions": [condition("PodReadyToStartContainers", "True")]}, pending)


def test_what_is_over_stays_over() -> None:
    assert status_patch({"phase": "Running", "podIP": "10.0.0.1"}, {"phase": "Failed"}) == {}
    assert status_patch({"phase": "Failed", "podIP": "10.0.0.1"}, {"phase": "Failed"}) == {"podIP": "10.0.0.1"}
    static = status_patch({"phase": "Running"}, {"phase": "Failed", "reason": "Terminated"}, static=True)
    assert static == {"phase": "Running", "reason": None}, "its node was shut down, and is up again"


def test_of_a_pod_that_is_deleted_every_container_has_ended() -> None:
    waiting = {"name": "b", "ready": True, "state": {"waiting": {"reason": "ContainerCreating"}}}
    ended = {"name": "a", "state": {"terminated": {"exitCode": 3}}}
    status = {
        "phase": "Failed", "conditions": [condition("Initialized", "True")], "containerStatuses": [ended, waiting],
    }  # fmt: skip
    lines = status_patch(status, {}, ending=True)["containerStatuses"]
    assert lines == [ended, {"name": "b", "ready": False, "state": {"terminated": LOST}}]
    assert status_patch(status, {})["containerStatuses"] == [ended, waiting]


_conditions = st.lists(
    st.builds(
        condition,
        st.sampled_from(["Ready", "Initialized", "PodResizePending", "DisruptionTarget"]),
        st.sampled_from(["True", "False"]),
        st.sampled_from(["2026-11-28T00:00:00Z", "2026-11-28T00:00:01Z"]),
    ),
    unique_by=lambda one: one["type"],
)
_statuses = st.fixed_dictionaries(
    {},
    optional={
        "phase": st.sampled_from(["Pending", "Running"]),
        "reason": st.sampled_from(["Evicted", None]),
        "podIP": st.sampled_from(["10.0.0.1", "10.0.0.2"]),
        "podIPs": st.lists(st.sampled_from([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]), unique_by=lambda one: one["ip"]),
        "containerStatuses": st.lists(st.sampled_from([{"name": "a", "restartCount": 1}, {"name": "b", "state": {}}])),
        "conditions": _conditions,
    },
)


@given(_statuses, _statuses)
def test_a_patch_brings_the_server_to_what_is_so(ours: dict[str, Any], known: dict[str, Any]) -> None:
    known = without_empty(known)
    merged = without_empty(merge(known, status_patch(ours, known)))
    assert status_patch(ours, merged) == {}
    assert {name: merged.get(name) for name in ("phase", "podIPs")} == {
        name: without_empty(ours).get(name) for name in ("phase", "podIPs")
    }
