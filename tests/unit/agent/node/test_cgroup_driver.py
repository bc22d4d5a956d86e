from __future__ import annotations

import pytest

from agent.node.cgroup_driver import agree_on_cgroup_driver
from cri_client.errors import Unavailable, Unimplemented
from cri_client.fake import FakeRuntime
from cri_client.types import CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigResponse


class Answering:
    def __init__(self, answer: RuntimeConfigResponse) -> None:
        self.answer = answer

    async def runtime_config(self) -> RuntimeConfigResponse:
        return self.answer


async def test_the_runtime_decides() -> None:
    assert await agree_on_cgroup_driver(FakeRuntime(), "systemd") == "cgroupfs"
    systemd = Answering(RuntimeConfigResponse(LinuxRuntimeConfiguration(CgroupDriver.SYSTEMD)))
    assert await agree_on_cgroup_driver(systemd, "cgroupfs") == "systemd"


@pytest.mark.parametrize("configured", ["systemd", "cgroupfs"])
async def test_the_configuration_counts_where_the_runtime_does_not_say(configured: str) -> None:
    assert await agree_on_cgroup_driver(Answering(RuntimeConfigResponse()), configured) == configured
    runtime = FakeRuntime()
    runtime.faults.fail_next("runtime_config", Unimplemented("RuntimeConfig", "unknown method"))
    assert await agree_on_cgroup_driver(runtime, configured) == configured


async def test_a_runtime_that_cannot_be_asked_decides_nothing() -> None:
    runtime = FakeRuntime()
    runtime.faults.fail_next("runtime_config", Unavailable("RuntimeConfig", "gone"))
    with pytest.raises(Unavailable):
        await agree_on_cgroup_driver(runtime, "systemd")
