"""What the agent counts of its own work, for whoever watches the node.  Pure.

Before: whoever does the work adds to it.  Next: the node's API tells it under the kubelet's names, where there is
one; a node that stands alone counts too, which costs it an addition now and then.
"""

from __future__ import annotations

from agent.images.counts import ImageCounts
from agent.pods.counts import PodCounts
from agent.probes.counts import ProbeCounts


class AgentCounts:
    """All counts since the agent began."""

    def __init__(self) -> None:
        self.images = ImageCounts()
        self.pods = PodCounts()
        self.probes = ProbeCounts()
