"""The agent beside the raw CRI: manifest to running, container killed to running, and what it costs at rest. I/O.

Before: `lab` makes a host with a private containerd. Next: `bench.__main__` prints the rows. Every time is read from
the runtime's own clock (`startedAt`), for the agent and for the reference alike; rounds of the two alternate.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from lightkube.models import core_v1

from agent.container_spec.facts import NodeFacts, SpecFacts
from bench import raw_cri
from bench.table import Row, median, percentile
from cri_client.channel import connect
from cri_client.runtime import RuntimeClient
from lab import cgroups
from lab.containerd import Binaries, PrivateContainerd
from lab.host import NODE_IP, LabHost
from lab.images import WEB_IMAGE, load_images
from lab.node import LabNode

T = TypeVar("T")
Json = dict[str, Any]
MANY = 30


@contextmanager
def lab_node(binaries: Binaries | None = None) -> Iterator[LabNode]:
    """A node on a private containerd in namespaces of its own, its daemons not started."""
    with LabHost("bench") as host, PrivateContainerd(host, host.base / "containerd", binaries) as containerd:
        load_images(containerd)
        node = LabNode(host, containerd, host.base / "node", cgroup_root=host.cgroup_root)
        try:
            yield node
        finally:
            node.close()


def manifests(count: int, mark: str) -> list[Json]:
    """`count` pods of one container that sleeps."""
    container = {"name": "main", "image": WEB_IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "86400"]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"{mark}-{number:02}"},
            "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
        }
        for number in range(count)
    ]


def start_rows(node: LabNode, rounds_one: int = 7, rounds_many: int = 3) -> list[Row]:
    """Manifest to running, for one pod and for many at once."""
    one = [_pair(node, 1, f"one{number}") for number in range(rounds_one)]
    many = [_pair(node, MANY, f"many{number}") for number in range(rounds_many)]
    ours_one, raw_one = (median([times[side][0] for times in one]) for side in (0, 1))
    last = [median([max(times[side]) for times in many]) for side in (0, 1)]
    half = [median([percentile(times[side], 0.5) for times in many]) for side in (0, 1)]
    return [
        Row("one pod, manifest -> running", "s", ours_one, raw_one, 1.2, "raw CRI"),
        Row(f"{MANY} pods at once, last running", "s", last[0], last[1], 1.15, "raw CRI"),
        Row(f"{MANY} pods at once, p50 running", "s", half[0], half[1], 0.75, "raw CRI"),
    ]


def restart_rows(node: LabNode, count: int = 10) -> list[Row]:
    """A container's process killed with -9 until the next attempt runs; each pod once, so that no back-off applies."""
    raw = asyncio.run(_with_runtime(node, lambda runtime: _raw_restarts(runtime, node, count)))
    _start_agent(node)
    pods = manifests(count, "kill")
    _start_by_agent(node, pods)
    ours = [_kill_and_wait(node, pod["metadata"]["name"]) for pod in pods]
    _remove_by_agent(node, pods)
    node.stop_agent()
    return [
        Row("container killed -> running, p50", "s", median(ours), None, 0.35),
        Row("container killed -> running, over create + start", "s", median(ours), median(raw), None, "raw CRI"),
    ]


def rest_rows(node: LabNode, seconds: float = 60.0) -> list[Row]:
    """The agent's memory and CPU with many pods that do nothing, and the proxy's beside one service."""
    pods = manifests(MANY, "rest")
    _start_agent(node)
    _start_by_agent(node, pods)
    node.put_service(_service())
    node.start_proxy()
    time.sleep(10)
    assert node.agent is not None
    assert node.proxy is not None
    daemons = {"agent, 30 pods at rest": node.agent.pid, "proxy, one service at rest": node.proxy.pid}
    before = {name: cpu_s(pid) for name, pid in daemons.items()}
    time.sleep(seconds)
    limits = {"agent, 30 pods at rest": (70.0, 0.3), "proxy, one service at rest": (55.0, None)}
    rows = []
    for name, pid in daemons.items():
        rss_limit, cpu_limit = limits[name]
        rows.append(Row(f"{name}: RSS", "MB", psutil.Process(pid).memory_info().rss / 1e6, None, rss_limit))
        rows.append(Row(f"{name}: CPU", "% of a core", (cpu_s(pid) - before[name]) / seconds * 100, None, cpu_limit))
    node.stop_proxy()
    _remove_by_agent(node, pods)
    node.stop_agent()
    return rows


def _pair(node: LabNode, count: int, mark: str) -> tuple[list[float], list[float]]:
    """Seconds to running of each pod: by the agent, and by the raw calls."""
    raw = asyncio.run(_with_runtime(node, lambda runtime: _raw_round(runtime, node, manifests(count, f"raw-{mark}"))))
    _start_agent(node)
    pods = manifests(count, mark)
    ours = _start_by_agent(node, pods)
    _remove_by_agent(node, pods)
    node.stop_agent()
    return ours, raw


def _start_agent(node: LabNode) -> None:
    """Start the agent and let it come to rest."""
    node.start_agent(f"--node-ip={NODE_IP}")
    node.wait(lambda: node.agent_api("/v1/status")["ready"], "the agent to be ready")
    time.sleep(1)


def _start_by_agent(node: LabNode, pods: Sequence[Json]) -> list[float]:
    names = [pod["metadata"]["name"] for pod in pods]
    begun = time.time()
    for pod in pods:
        node.put_pod(pod)
    # Asked seldom: a busy reader of the local API would be measured with the agent.
    node.wait(lambda: _all_run(node, names), "all pods to run", 120)
    return [at - begun for at in asyncio.run(_with_runtime(node, lambda runtime: _started_at(runtime, node, names)))]


def _all_run(node: LabNode, names: Sequence[str]) -> bool:
    time.sleep(1.0)
    found = node.pods()
    running = [name for name in names if _phase(found, f"{name}-{node.name}") == "Running"]
    return len(running) == len(names)


def _phase(found: dict[str, Json], name: str) -> str:
    return str(found.get(name, {}).get("pod", {}).get("status", {}).get("phase", ""))


async def _started_at(runtime: RuntimeClient, node: LabNode, names: Sequence[str]) -> list[float]:
    found = []
    for name in names:
        status = (await runtime.container_status(node.container_id(name))).status
        assert status is not None
        found.append(status.started_at / 1e9)
    return found


def _remove_by_agent(node: LabNode, pods: Sequence[Json]) -> None:
    node.clear_manifests()
    node.wait_gone(*(pod["metadata"]["name"] for pod in pods), timeout_s=120)


def _kill_and_wait(node: LabNode, name: str) -> float:
    old = node.container_id(name)
    pid = host_pid(node, node.containerd.tasks()[old])
    begun = time.time()
    os.kill(pid, 9)
    node.wait(lambda: node.container_id(name) not in ("", old), f"{name} to run again", 30)
    (at,) = asyncio.run(_with_runtime(node, lambda runtime: _started_at(runtime, node, [name])))
    return at - begun


def host_pid(node: LabNode, pid_inside: int) -> int:
    """The number this machine gives to a process that the lab's host numbers `pid_inside`."""
    assert isinstance(node.machine, LabHost)
    for pid in node.machine.pids():
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        numbers = next(line for line in status if line.startswith("NSpid:")).split()[1:]
        if len(numbers) > 1 and int(numbers[1]) == pid_inside:
            return pid
    raise AssertionError(f"no process {pid_inside} in the lab")


async def _raw_round(runtime: RuntimeClient, node: LabNode, raw: Sequence[Json]) -> list[float]:
    pods, facts = _prepared(node, raw)
    times = await raw_cri.start_pods(runtime, pods, facts)
    await raw_cri.remove_pods(runtime, pods)
    cgroups.kill_and_remove(facts.cgroup_parent)
    return times


async def _raw_restarts(runtime: RuntimeClient, node: LabNode, count: int) -> list[float]:
    pods, facts = _prepared(node, manifests(count, "raw-kill"))
    await raw_cri.start_pods(runtime, pods, facts)
    times = [await raw_cri.restart_container(runtime, pod, facts) for pod in pods]
    await raw_cri.remove_pods(runtime, pods)
    cgroups.kill_and_remove(facts.cgroup_parent)
    return times


def _prepared(node: LabNode, raw: Sequence[Json]) -> tuple[list[core_v1.Pod], SpecFacts]:
    node_facts = NodeFacts(node_name=node.name, memory_bytes=psutil.virtual_memory().total, resolv_conf="")
    facts = SpecFacts(
        node=node_facts,
        root_dir=str(node.base / "raw"),
        pod_logs_dir=str(node.pod_logs),
        cgroup_parent=f"{node.cgroup_root}/raw",
    )
    pods = raw_cri.parse_all(raw, node.name)
    for pod in pods:
        raw_cri.prepare_files(pod, facts)
    return pods, facts


async def _with_runtime(node: LabNode, use: Callable[[RuntimeClient], Awaitable[T]]) -> T:
    async with connect(node.containerd.endpoint) as channel:
        return await use(RuntimeClient(channel))


def _service() -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "rest"},
        "spec": {"clusterIP": "198.19.0.10", "selector": {"app": "rest"}, "ports": [{"port": 80}]},
    }


def cpu_s(pid: int) -> float:
    """Seconds of CPU a process has used so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
