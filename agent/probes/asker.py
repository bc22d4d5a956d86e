"""Runs one probe of one container once, as fairly as a busy node can.  Effects: the runners' calls and connections.

Before: `prober` says when it is time.  Next: a runner for each kind asks; machine.py says what the result means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.container_spec.env import expand_all
from agent.probes.counts import ProbedPod
from agent.probes.exec_probe import ExecRuntime, run_exec
from agent.probes.grpc_probe import run_grpc
from agent.probes.http_probe import HttpProber
from agent.probes.lag import LagMeter
from agent.probes.machine import Outcome, ProbeKind, ProbeResult, ProbeState
from agent.probes.plan import ExecAsk, GrpcAsk, HttpAsk, ProbePlan, TcpAsk
from agent.probes.tcp_probe import run_tcp

_ATTEMPTS = 3
_FORGIVEN_IN_A_ROW = 3
_LAG_SHARE = 0.25
_log = logging.getLogger(__name__)


@dataclass
class Probed:
    """One running container and its probes."""

    pod: ProbedPod
    name: str
    container_id: str
    started_at_s: float
    pod_ip: str
    plans: Mapping[ProbeKind, ProbePlan]
    environment: Mapping[str, str]
    states: dict[ProbeKind, ProbeState]
    tasks: dict[ProbeKind, asyncio.Task[None]] = field(default_factory=dict)
    messages: dict[ProbeKind, str] = field(default_factory=dict)
    forgiven: int = 0
    terminating: bool = False


class Asker:
    """All probes of the node ask through one.  `http` is for whoever else asks as probes do."""

    def __init__(self, runtime: ExecRuntime) -> None:
        self.http = HttpProber()
        self._runtime = runtime
        self._lag = LagMeter()

    async def ask_fairly(self, probed: Probed, plan: ProbePlan) -> ProbeResult:
        """One run, repeated at once while it cannot be run at all.

        A time-out while our own loop was starved says nothing of the container, unless that goes on and on.
        """
        result = ProbeResult(Outcome.UNKNOWN)
        with self._lag.watch() as lag:
            for _ in range(_ATTEMPTS):
                try:
                    result = await self._ask(probed, plan)
                except Exception as error:
                    _log.exception("cannot probe container %s", probed.name)
                    result = ProbeResult(Outcome.UNKNOWN, f"cannot run the probe: {error}")
                if result.outcome is not Outcome.UNKNOWN:
                    break
            starved = result.timed_out and lag.lost_s > _LAG_SHARE * plan.timing.timeout_s
        if starved and probed.forgiven < _FORGIVEN_IN_A_ROW:
            probed.forgiven += 1
            return ProbeResult(Outcome.UNKNOWN, f"{result.message} (not counted: the node was too busy to ask)")
        if not result.timed_out:
            probed.forgiven = 0
        return result

    async def _ask(self, probed: Probed, plan: ProbePlan) -> ProbeResult:
        ask, timeout_s = plan.ask, plan.timing.timeout_s
        if isinstance(ask, ExecAsk):
            command = expand_all(ask.command, probed.environment)
            return await run_exec(self._runtime, probed.container_id, command, timeout_s)
        host = ask.host if isinstance(ask, HttpAsk | TcpAsk) else ""
        if isinstance(ask, HttpAsk | TcpAsk | GrpcAsk) and not (host or probed.pod_ip):
            return ProbeResult(Outcome.UNKNOWN, "the pod has no address yet")
        if isinstance(ask, HttpAsk):
            return await self.http.run(ask, probed.pod_ip, timeout_s)
        if isinstance(ask, TcpAsk):
            return await run_tcp(ask.host or probed.pod_ip, ask.port, timeout_s)
        if isinstance(ask, GrpcAsk):
            return await run_grpc(ask, probed.pod_ip, timeout_s)
        return ProbeResult(Outcome.UNKNOWN, ask.message)
