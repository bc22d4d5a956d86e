"""kubectl's verbs that are about the node, on a real control plane; and that hundreds of sessions leave nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.host import NODE_IP, LabHost
from lab.images import WEB_IMAGE
from lab.node_api_client import NodeClient
from tests.cluster.conftest import Member
from tests.cluster.test_pods import pod_object, running
from tests.kernel.netlab import Namespace

pytestmark = pytest.mark.timeout(900)
LABEL, POD = "verbs", "stays"
SESSIONS, AT_ONCE = 120, 6


@pytest.fixture(scope="module")
def busy(member: Member) -> Iterator[Member]:
    """A node with a pod that is Ready."""
    member.cluster.apply(pod_object(LABEL, POD))
    member.wait(lambda: running(member, LABEL), "the pod to be Ready")
    yield member
    member.cluster.kubectl("uncordon", "member-a")
    member.remove(LABEL)


def reasons(member: Member) -> set[str]:
    """Of the events of the node."""
    return {one["reason"] for one in member.get("events", "--field-selector=involvedObject.kind=Node")["items"]}


def test_hundreds_of_sessions_leave_nothing(busy: Member) -> None:
    agent = busy.node.agent
    assert agent is not None
    assert isinstance(busy.node.machine, LabHost)
    namespace, process = Namespace.of_process(busy.node.machine.pid), psutil.Process(agent.pid)
    pair = busy.cluster.plane.administrator

    async def sessions(count: int) -> None:
        todo = iter(range(count))

        async def one_after_the_other(client: NodeClient) -> None:
            for _ in todo:
                await client.run(POD, "true")

        async with NodeClient(NODE_IP, pair.with_suffix(".crt"), pair.with_suffix(".key"), container="web") as client:
            await asyncio.gather(*(one_after_the_other(client) for _ in range(AT_ONCE)))

    def opened(count: int) -> None:
        with namespace.entered():
            asyncio.run(sessions(count))

    try:
        opened(2 * AT_ONCE)
        before = (process.num_fds(), process.num_threads())
        grown_bytes: list[int] = []
        while not grown_bytes or (grown_bytes[-1] >= 8 << 20 and len(grown_bytes) < 3):
            rss_bytes = process.memory_info().rss
            opened(SESSIONS)
            busy.wait(lambda: process.num_fds() <= before[0] + 2, f"descriptors as before: {before[0]}")
            grown_bytes.append(process.memory_info().rss - rss_bytes)
        # What else the agent does may take memory once, and wake a thread of its pool; what sessions leave adds up.
        assert grown_bytes[-1] < 8 << 20, grown_bytes
        assert process.num_threads() < before[1] + SESSIONS // 10
    finally:
        namespace.close()


def test_what_metrics_server_makes_of_two_scrapes(busy: Member) -> None:
    """`kubectl top` shows what metrics-server computes of the differences of two scrapes with time stamps."""

    def scrape() -> dict[tuple[str, ...], tuple[float, float]]:
        text = busy.cluster.kubectl("get", "--raw", "/api/v1/nodes/member-a/proxy/metrics/resource")
        found = {}
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                labels = tuple(one.labels.get(name, "") for name in ("namespace", "pod", "container"))
                found[one.name, *labels] = (one.value, float(one.timestamp or 0))
        return found

    web = ("default", POD, "web")
    processor = (("node_cpu_usage_seconds_total", "", "", ""), ("container_cpu_usage_seconds_total", *web))
    first = scrape()

    def later() -> dict[tuple[str, ...], tuple[float, float]]:
        found = scrape()
        return found if all(one in found and found[one][1] > first[one][1] for one in processor) else {}

    second = busy.wait(later, "a later scrape")
    for one in processor:
        (used_s, at_s), (used_later_s, later_s) = first[one], second[one]
        cores = (used_later_s - used_s) / (later_s - at_s)
        assert 0 <= cores < 64, one
    for name in (("node_memory_working_set_bytes", "", "", ""), ("container_memory_working_set_bytes", *web)):
        assert second[name][0] > 0
    assert 0 < second["container_start_time_seconds", *web][0] <= second[processor[1]][1]


def test_the_node_is_described(busy: Member) -> None:
    said = busy.cluster.kubectl("describe", "node", "member-a")
    for text in (
        "Ready ",
        "Kubelet Version:",
        "Container Runtime Version:",
        f"  {POD} ",
        "Allocated res",
    ):
        assert text in said


def test_a_pod_that_debugs_the_node_sees_its_files_and_processes(busy: Member) -> None:
    marker = busy.node.base / "marker"
    marker.write_text("of the node\n")
    command = ("--", "sh", "-c", f"cat /host{marker} && ls /host/proc/1/ns")
    asked = ("debug", "node/member-a", f"--image={WEB_IMAGE}", "--profile=general", "--attach=false")
    said = busy.cluster.kubectl(*asked, *command)
    pod = next(word for word in said.split() if word.startswith("node-debugger-member-a-"))
    try:
        busy.wait(lambda: busy.pod(pod).get("status", {}).get("phase") == "Succeeded", "the debugger to end")
        assert busy.cluster.kubectl("logs", pod).startswith("of the node\n")
    finally:
        busy.cluster.kubectl("delete", "pod", pod, "--grace-period=1")


def test_a_node_that_is_drained_has_no_pods_and_gets_none_until_it_is_uncordoned(busy: Member) -> None:
    busy.cluster.kubectl("cordon", "member-a")
    busy.wait(lambda: "NodeNotSchedulable" in reasons(busy), "the event that it is cordoned")
    busy.cluster.apply(pod_object(LABEL, "waits"))

    def why(pod: str) -> str:
        found = busy.pod(pod).get("status", {}).get("conditions", ())
        return next((one.get("message", "") for one in found if one["type"] == "PodScheduled"), "")

    busy.wait(lambda: "unschedulable" in why("waits"), "the scheduler to find no node")
    said = busy.cluster.kubectl(
        "drain", "member-a", "--force", "--ignore-daemonsets", f"--pod-selector=test={LABEL}", "--grace-period=1"
    )
    assert f"pod/{POD} evicted" in said or f"pod/{POD} deleted" in said
    assert busy.pod(POD) == {}
    busy.cluster.kubectl("uncordon", "member-a")
    busy.wait(lambda: [one for one in running(busy, LABEL) if one["metadata"]["name"] == "waits"], "the pod that waits")
    busy.wait(lambda: "NodeSchedulable" in reasons(busy), "the event that it is uncordoned")
