"""Gives a running container other amounts of CPU and memory: one CRI call. I/O.

Before: `execute` has a ResizeContainer step. Next: the runtime. A memory limit below what the container uses is not
set, because the kernel would end it for that.
"""

from __future__ import annotations

import dataclasses

from agent.cgroups.values import UNLIMITED
from agent.pods.failure import StepFailed
from cri_client.protocols import Runtime
from cri_client.types import LinuxContainerResources


async def resize_container(runtime: Runtime, container_id: str, wanted: LinuxContainerResources) -> None:
    """`wanted` is what a new container would be made with. Raises StepFailed, CriError."""
    limit_bytes = wanted.memory_limit_in_bytes
    if limit_bytes:
        memory = (await runtime.container_stats(container_id)).memory
        used_bytes = memory.working_set_bytes.value if memory is not None and memory.working_set_bytes else 0
        if used_bytes > limit_bytes:
            text = f"attempting to set memory limit ({limit_bytes}) below current usage ({used_bytes})"
            raise StepFailed("ResizeError", text)
    wanted = dataclasses.replace(  # 0 would leave what is there: a limit that is taken away is said
        wanted,
        cpu_quota=wanted.cpu_quota or UNLIMITED,
        memory_limit_in_bytes=limit_bytes or UNLIMITED,
        hugepage_limits=(),
    )
    await runtime.update_container_resources(container_id, wanted)
