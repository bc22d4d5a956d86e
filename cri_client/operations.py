"""How often the runtime was asked for what, how long that took, and how often it refused. No I/O; times are given.

Before: `channel` makes the calls. Next: the node's API tells, with the kubelet's names of operations and its buckets
(kubelet_runtime_operations_*).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from daemonkit.tally import Tally

BUCKETS_S = tuple(0.005 * 2.5**power for power in range(14))
_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Operation:
    """One kind: how long each call took, and how many failed."""

    __slots__ = ("errors", "seconds")

    def __init__(self) -> None:
        self.errors = 0
        self.seconds = Tally(BUCKETS_S)

    def add(self, seconds: float, *, failed: bool) -> None:
        """One call has ended."""
        self.errors += failed
        self.seconds.add(seconds)


class Operations:
    """By the CRI's names of the methods, of which there are few."""

    def __init__(self) -> None:
        self._by_method: dict[str, Operation] = {}

    def add(self, method: str, seconds: float, *, failed: bool) -> None:
        """One call has ended."""
        found = self._by_method.get(method)
        if found is None:
            found = self._by_method[method] = Operation()
        found.add(seconds, failed=failed)

    def by_type(self) -> Mapping[str, Operation]:
        """By the kubelet's operation_type."""
        return {operation_type(method): found for method, found in sorted(self._by_method.items())}


def operation_type(method: str) -> str:
    """ "RunPodSandbox" is run_podsandbox there."""
    text = _BORDER.sub("_", method).lower().replace("pod_sandbox", "podsandbox")
    return {"update_container_resources": "update_container"}.get(text, text)
