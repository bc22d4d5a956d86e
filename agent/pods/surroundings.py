"""What every pod's worker works with: the shared parts of the agent, handed over by `running` in one value.

Before: `running` builds it. Next: `worker`. No behaviour of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lightkube.models.core_v1 import Pod

from agent.counts import AgentCounts
from agent.images.puller import ImagePuller
from agent.pods.execute import Executor
from agent.pods.facts import Held, ShutdownTurn
from agent.pods.happenings import Happening
from agent.pods.record_saver import RecordSaver
from agent.pods.runtime_view import RuntimeView
from agent.pods.start_slots import StartSlots
from agent.probes.prober import Prober
from agent.server.board import StatusBoard
from agent.state_dir import StateDir


@dataclass(slots=True)
class Surroundings:
    """The parts. `not_admitted(pod)` says why a pod may not start yet; `moved(uid)` tells that the pod's worker
    has entered another phase; `going_down(pod)` is None unless the node goes down; `tell(uid, happening)` says what
    happens to a pod to whoever has put himself there.
    """

    view: RuntimeView
    executor: Executor
    puller: ImagePuller
    prober: Prober
    board: StatusBoard
    state: StateDir
    saver: RecordSaver
    slots: StartSlots
    not_admitted: Callable[[Pod], Held | None]
    moved: Callable[[str], None]
    preempt: Callable[[Pod], bool] = lambda _pod: False
    going_down: Callable[[Pod | None], ShutdownTurn | None] = lambda _pod: None
    tell: Callable[[str, Happening], None] = lambda _uid, _happening: None
    counts: AgentCounts = field(default_factory=AgentCounts)
