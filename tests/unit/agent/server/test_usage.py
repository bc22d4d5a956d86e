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
