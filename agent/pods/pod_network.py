"""Is the runtime's network ready for pods?  I/O: the runtime's Status, before a sandbox is made and after one failed.

Before: `execute` is to make a sandbox.  Next: StepFailed, in the kubelet's words.  A pod in the host's network waits
for none of it.  Of a sandbox that is tried meanwhile containerd keeps a half that it cannot stop before the network is
there.  Source: kubelet SyncPod, pod_workers (it tries again each second).
"""

from __future__ import annotations

import asyncio
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
"""An answer is believed for so long: of many pods that start at once, or wait for the network, one asks."""


class PodNetwork:
    """Of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._turn = asyncio.Lock()
        self._problem = ""
        self._answered_s = -math.inf

    async def check(self, pod: Pod) -> None:
        """Before a sandbox is made.  Raises StepFailed where the network is not ready."""
        if _wants(pod):
            await self._look(_now_s() - _FRESH_S)

    async def blame(self, pod: Pod, step: CreateSandbox, error: CriError) -> None:
        """After the sandbox has failed.  Raises StepFailed where it could not but fail."""
        failed = cri_failure(step, error, time.time())
        if _wants(pod) and not (failed.name_taken or failed.runtime_away):
            await self._look(_now_s())

    async def _look(self, since_s: float) -> None:
        """By an answer that came since then: whoever waits while another one asks has that answer, too."""
        async with self._turn:
            if self._answered_s <= since_s:
                self._problem = await self._ask()
                self._answered_s = _now_s()
        if self._problem:
            raise StepFailed(NETWORK, f"network is not ready: {self._problem}", retry_at_s=time.time() + _RETRY_S)

    async def _ask(self) -> str:
        try:
            return network_problem(await self._runtime.status())
        except CriError:
            return ""  # whatever is wrong, the sandbox tells


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _wants(pod: Pod) -> bool:
    return pod.spec is not None and not pod.spec.hostNetwork
