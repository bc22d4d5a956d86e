"""How long it took until this machine was a node of its cluster that is ready.  Pure.

Before: `node_keeper` tells what it has done.  Next: the node's API tells it under the kubelet's names.  Only a Node
that this agent has made counts: of one that was there before nobody knows how long it took.
Source: kubelet node_startup_latency_tracker.
"""

from __future__ import annotations


class NodeStartup:
    """Each moment the first time only; all are Unix seconds."""

    def __init__(self) -> None:
        self._tried_s = 0.0
        self._registered_s = 0.0
        self._ready_s = 0.0
        self._was_there = False

    def tries(self, now_s: float) -> None:
        """To register."""
        self._tried_s = self._tried_s or now_s

    def was_there(self) -> None:
        """Another one has made the Node: if it is made again later, that is no start of this machine."""
        self._was_there = True

    def is_registered(self, now_s: float) -> None:
        """The API server has made the Node."""
        if not self._was_there:
            self._registered_s = self._registered_s or now_s

    def is_ready(self, now_s: float) -> None:
        """The API server knows it to be."""
        if self._registered_s:
            self._ready_s = self._ready_s or now_s

    def seconds(self, booted_s: float, began_s: float) -> dict[str, float]:
        """By the kubelet's words, what is known so far; `booted_s` is when the machine began, `began_s` the agent."""
        found: dict[str, float] = {}
        if self._registered_s:
            found |= {
                "pre_kubelet": began_s - booted_s,
                "pre_registration": self._tried_s - began_s,
                "registration": self._registered_s - self._tried_s,
            }
        if self._ready_s:
            found["post_registration"] = self._ready_s - self._registered_s
            found[""] = self._ready_s - booted_s
        return found
