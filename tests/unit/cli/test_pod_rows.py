"""STATUS, READY and RESTARTS for the objects that `kubectl get pods` prints so."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from cli.ages import age, short_duration
from cli.pod_rows import pod_row, pod_status, restarts, waiting_text

NOW = datetime.datetime(2026, 1, 31, 12, 0, 0, tzinfo=datetime.UTC)
RUNNING = {"state": {"running": {"startedAt": "2026-01-31T11:00:00Z"}}, "ready": True, "name": "a"}
READY = [{"type": "Ready", "status": "True"}]


def waiting(reason: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason}}, "ready": False, "name": "b"}


def ended(code: int, reason: str | None = None, signal: int | None = None) -> dict[str, Any]:
    facts = {"exitCode": code, "reason": reason, "signal": signal}
    return {"state": {"terminated": {key: value for key, value in facts.items() if value is not None}}, "name": "c"}


@pytest.mark.parametrize(
    ("status", "extra", "text"),
    [
        ({"phase": "Running", "containerStatuses": [RUNNING], "conditions": READY}, {}, "Running"),
        ({"phase": "Pending"}, {}, "Pending"),
        ({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}, {}, "ContainerCreating"),
        ({"phase": "Running", "containerStatuses": [waiting("CrashLoopBackOff")]}, {}, "CrashLoopBackOff"),
        ({"phase": "Running", "containerStatuses": [RUNNING, waiting("CrashLoopBackOff")]}, {}, "CrashLoopBackOff"),
        ({"phase": "Pending", "containerStatuses": [waiting("ImagePullBackOff")]}, {}, "ImagePullBackOff"),
        ({"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]}, {}, "Completed"),
        ({"phase": "Failed", "containerStatuses": [ended(1, "Error")]}, {}, "Error"),
        ({"phase": "Failed", "containerStatuses": [ended(3)]}, {}, "ExitCode:3"),
        ({"phase": "Failed", "containerStatuses": [ended(137, signal=9)]}, {}, "Signal:9"),
        (
            {"phase": "Running", "containerStatuses": [RUNNING, ended(0, "Completed")], "conditions": READY},
            {},
            "Running",
        ),
        ({"phase": "Running", "containerStatuses": [RUNNING, ended(0, "Completed")]}, {}, "NotReady"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, "Evicted"),
        (
            {"phase": "Running", "containerStatuses": [RUNNING]},
            {"deletionTimestamp": "2026-01-31T12:00:00Z"},
            "Terminating",
        ),
        (
            {"phase": "Succeeded", "containerStatuses": [ended(0, "Completed")]},
            {"deletionTimestamp": "2026-01-31T12:00:00Z"},
            "Completed",
        ),
        ({"phase": "Running", "reason": "NodeLost"}, {"deletionTimestamp": "2026-01-31T12:00:00Z"}, "Unknown"),
        ({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}, {}, "Init:0/2"),
        ({"phase": "Pending", "initContainerStatuses": [ended(0), waiting("PodInitializing")]}, {}, "Init:1/2"),
        ({"phase": "Pending", "initContainerStatuses": [ended(1, "Error")]}, {}, "Init:Error"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff")]}, {}, "Init:CrashLoopBackOff"),
        ({"phase": "Pending", "initContainerStatuses": [ended(2)]}, {}, "Init:ExitCode:2"),
    ],
)
def test_status(status: dict[str, Any], extra: dict[str, Any], text: str) -> None:
    spec = {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]}
    assert pod_status({"metadata": {"name": "web", **extra}, "spec": spec, "status": status}) == text


def test_a_sidecar_counts_as_started() -> None:
    spec = {"containers": [{"name": "a"}], "initContainers": [{"name": "side", "restartPolicy": "Always"}]}
    side = {"name": "side", "started": True, "restartCount": 4, "state": {"running": {}}}
    pod = {
        "spec": spec,
        "status": {"phase": "Running", "initContainerStatuses": [side], "containerStatuses": [RUNNING]},
    }
    assert (pod_status(pod), restarts(pod, NOW)) == ("Running", "4")


@pytest.mark.parametrize(("ready", "cell"), [(True, "2/2"), (False, "1/2")])
def test_a_sidecar_counts_as_a_container_of_its_own(ready: bool, cell: str) -> None:
    inits = [{"name": "side", "restartPolicy": "Always"}, {"name": "setup"}]
    side = {"name": "side", "started": True, "ready": ready, "state": {"running": {}}}
    status = {"phase": "Running", "initContainerStatuses": [side, ended(0)], "containerStatuses": [RUNNING]}
    pod = {"metadata": {}, "spec": {"containers": [{"name": "a"}], "initContainers": inits}, "status": status}
    assert pod_row({"pod": pod}, NOW, wide=False)[2] == cell


def test_restarts_tell_when_the_last_one_was() -> None:
    last = {"lastState": {"terminated": {"finishedAt": "2026-01-31T11:57:30Z"}}}
    statuses = [{"restartCount": 2, **last}, {"restartCount": 1}]
    assert restarts({"status": {"containerStatuses": statuses}}, NOW) == "3 (2m30s ago)"
    assert restarts({"status": {"containerStatuses": [{"restartCount": 0}]}}, NOW) == "0"
    assert restarts({}, NOW) == "0"


def test_a_row() -> None:
    entry = {
        "pod": {
            "metadata": {"name": "web-n1", "namespace": "default"},
            "spec": {"containers": [{"name": "a", "image": "web:1"}, {"name": "b", "image": "log:1"}]},
            "status": {
                "phase": "Running",
                "podIP": "10.1.0.4",
                "startTime": "2026-01-31T11:58:30Z",
                "qosClass": "Burstable",
                "containerStatuses": [RUNNING, waiting("CrashLoopBackOff")],
            },
        },
        "source": "/m/web.yaml",
        "waiting": [
            {
                "what": "container b",
                "reason": "CrashLoopBackOff",
                "message": "back-off 10s",
                "since": None,
                "until": "2026-01-31T12:00:07Z",
            }
        ],
    }
    waits = "container b: CrashLoopBackOff: back-off 10s (again in 7s)"
    row = ("default", "web-n1", "1/2", "CrashLoopBackOff", "0", "10.1.0.4", "90s")
    assert pod_row(entry, NOW, wide=False) == (*row, waits)
    assert pod_row(entry, NOW, wide=True) == (*row, "Burstable", "web:1,log:1", "/m/web.yaml", waits)


def test_a_wait_without_much_to_say() -> None:
    assert (
        waiting_text({"what": "image", "reason": None, "message": "", "until": "2026-01-31T11:00:00Z"}, NOW)
        == "image (now)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (51 * 3600, "2d3h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (731 * 86400, "2y1d"),
        (3000 * 86400, "8y"),
    ],
)
def test_short_durations(seconds: float, text: str) -> None:
    assert short_duration(seconds) == text


def test_ages() -> None:
    assert age("2026-01-31T11:59:55Z", NOW) == "5s"
    assert age(None, NOW) == age("nonsense", NOW) == "<unknown>"
