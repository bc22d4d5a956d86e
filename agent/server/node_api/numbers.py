"""What was counted elsewhere and is told here.  No behaviour of its own.

Before: `agent/cluster/side` has it from those who count.  Next: `measures` makes text of it when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lightkube.models.core_v1 import Pod

from agent.cluster.counts import ClusterCounts
from agent.counts import AgentCounts
from cri_client.operations import Operations


@dataclass(frozen=True, slots=True)
class Numbers:
    """`operations` are what the runtime was asked, `active` the pods that hold resources of the node, `mirrors` is how
    many mirrors of static pods the API server has.
    """

    operations: Operations = field(default_factory=Operations)
    counts: AgentCounts = field(default_factory=AgentCounts)
    cluster: ClusterCounts = field(default_factory=ClusterCounts)
    active: Callable[[], Sequence[Pod]] = tuple
    mirrors: Callable[[], int] = int
