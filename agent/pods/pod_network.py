"""Is the runtime's network ready for pods?  It is asked once a sandbox has failed, and then before each until it is.
I/O: the runtime's Status.

Before: `execute` is to make a sandbox.  Next: StepFailed, in the kubelet's words.  A pod in the host's network waits
for none of it.  The kubelet asks all the time, and makes no sandbox meanwhile: here a node that is well pays nothing.
Source: kubelet SyncPod, pod_workers (it tries again each second).
"""

from __future__ import annotations

import time

from lightkube.models.core_v1 import Pod

from agent.node.runtime_facts import network_problem
from agent.pods.failure import NETWORK, StepFailed, cri_failure
from agent.pods.steps import CreateSandbox
from cri_client.errors import CriError
from cri_client.protocols import Runtime

_RETRY_S = 1.0


class PodNetwork:
    """Of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._problem = ""

    async def check(self, pod: Pod) -> None:
        """Before a sandbox is made.  Raises StepFailed where the network was not ready, and still is not."""
        if self._problem and _wants(pod):
            await self._look()

    async def blame(self, pod: Pod, step: CreateSandbox, error: CriError) -> None:
        """After the sandbox has failed.  Raises StepFailed where it could not but fail."""
        failed = cri_failure(step, error, time.time())
        if _wants(pod) and not (failed.name_taken or failed.runtime_away):
            await self._look()

    async def _look(self) -> None:
        try:
            self._problem = network_problem(await self._runtime.status())
        except CriError:
            return  # whatever is wrong, the next sandbox tells
        if self._problem:
            text = f"network is not ready: {self._problem}"
            raise StepFailed(NETWORK, text, retry_at_s=time.time() + _RETRY_S)


def _wants(pod: Pod) -> bool:
    return pod.spec is not None and not pod.spec.hostNetwork
