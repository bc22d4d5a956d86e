"""What is asked of a runtime that cannot tell of all pods at once."""

from __future__ import annotations

from agent.server.node_api.usage import read_pod_use
from cri_client import types as cri
from cri_client.errors import Code, CriError
from cri_client.fake import FakeRuntime


async def test_a_pod_that_cannot_be_measured_hides_no_other() -> None:
    runtime = FakeRuntime()
    for name in ("a", "b", "c"):
        await runtime.run_pod_sandbox(cri.PodSandboxConfig(cri.PodSandboxMetadata(name, f"uid-{name}", "default", 0)))
    await runtime.stop_pod_sandbox(next(iter(runtime.sandboxes)))
    gone = CriError("ListPodSandboxStats", "cgroups: cgroup deleted", Code.UNKNOWN)
    runtime.faults.fail_next("list_pod_sandbox_stats", gone)
    runtime.faults.fail_next("pod_sandbox_stats", gone)
    assert len(await read_pod_use(runtime)) == 1


async def test_a_runtime_that_says_less_of_pods_than_of_containers() -> None:
    """As containerd does: no cores that a pod uses now, and no time beside its network."""

    def stats(name: str, nano_cores: int) -> cri.ContainerStats:
        attributes = cri.ContainerAttributes(name, cri.ContainerMetadata(name, 0))
        return cri.ContainerStats(attributes, cri.CpuUsage(2_000_000_000, usage_nano_cores=cri.UInt64Value(nano_cores)))

    class Terse(FakeRuntime):
        async def list_pod_sandbox_stats(
            self,
            filter: cri.PodSandboxStatsFilter | None = None,  # noqa: A002 - the CRI's name
        ) -> tuple[cri.PodSandboxStats, ...]:
            names = cri.PodSandboxMetadata("a", "uid-a", "default", 0)
            cpu, net = cri.CpuUsage(2_000_000_000, cri.UInt64Value(9)), cri.NetworkUsage()
            linux = cri.LinuxPodSandboxStats(cpu, None, net, None, (stats("one", 30), stats("two", 12)))
            return (cri.PodSandboxStats(cri.PodSandboxAttributes("s1", names), linux),)

    (pod,) = await read_pod_use(Terse())
    assert pod.amounts is not None
    assert (pod.amounts.nano_cores, pod.network_time_s) == (42, 2.0)
