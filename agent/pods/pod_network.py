"""Is the runtime's network ready for pods?  I/O: the runtime's Status, before a sandbox is made and after one failed.

Before: `execute` is to make a sandbox.  Next: StepFailed, in the kubelet's words.  A pod in the host's network waits
for none of it.  Of a sandbox that is tried meanwhile containerd keeps a half that it cannot stop before the network is
there.  Source: kubelet SyncPod, pod_workers (it tries again each second).
"""

from __future__ import annotations

import math
import time

from lightkube.models.core_v1 import Pod

from agent.node.runtime_facts import network_problem
from agent.pods.failure import NETWORK, StepFailed, cri_failure
from agent.pods.steps import CreateSandbox
from cri_client.errors import CriError
from cri_client.protocols import Runtime

_RETRY_S = 1.0
_FRESH_S = 1.0
"""That it is ready is believed for so long: many pods that start at once ask once."""


class PodNetwork:
    """Of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._ready_s = -math.inf

    async def check(self, pod: Pod) -> None:
        """Before a sandbox is made.  Raises StepFailed where the network is not ready."""
        if _wants(pod) and time.monotonic() - self._ready_s >= _FRESH_S:
            await self._look()

    async def blame(self, pod: Pod, step: CreateSandbox, error: CriError) -> None:
        """After the sandbox has failed.  Raises StepFailed where it could not but fail."""
        failed = cri_failure(step, error, time.time())
        if _wants(pod) and not (failed.name_taken or failed.runtime_away):
            await self._look()

    async def _look(self) -> None:
        try:
            problem = network_problem(await self._runtime.status())
        except CriError:
            return  # whatever is wrong, the sandbox tells
        if problem:
            raise StepFailed(NETWORK, f"network is not ready: {problem}", retry_at_s=time.time() + _RETRY_S)
        self._ready_s = time.monotonic()


def _wants(pod: Pod) -> bool:
    return pod.spec is not None and not pod.spec.hostNetwork
