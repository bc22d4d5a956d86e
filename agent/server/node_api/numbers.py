"""What was counted elsewhere and is told here.  No behaviour of its own.

Before: `agent/cluster/side` has it from those who count.  Next: `measures` makes text of it when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.counts import AgentCounts
from cri_client.operations import Operations


@dataclass(frozen=True, slots=True)
class Numbers:
    """`operations` are what the runtime was asked."""

    operations: Operations = field(default_factory=Operations)
    counts: AgentCounts = field(default_factory=AgentCounts)
