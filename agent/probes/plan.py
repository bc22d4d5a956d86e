"""What the probes of a container ask: core/v1 Probe objects, defaulted and resolved.

Before: the pod as admission let it in.  Next: prober.py runs one of the runners for each plan.  Pure.  Named ports
are resolved against the container's own ports; what cannot be resolved becomes an `Unaskable`, which the kubelet, too,
finds out only when it probes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightkube.models import core_v1

from agent.probes.machine import ProbeKind, ProbeTiming


@dataclass(frozen=True)
class ExecAsk:
    """Run a command in the container, without a shell."""

    command: tuple[str, ...]


@dataclass(frozen=True)
class HttpAsk:
    """GET `path` (path and query); an empty `host` is the pod's address."""

    scheme: str
    host: str
    port: int
    path: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TcpAsk:
    """Open a connection; an empty `host` is the pod's address."""

    host: str
    port: int


@dataclass(frozen=True)
class GrpcAsk:
    """Ask the health service of the pod's address; an empty `service` is the server as a whole."""

    port: int
    service: str = ""


@dataclass(frozen=True)
class Unaskable:
    """A probe that cannot be run, and why."""

    message: str


@dataclass(frozen=True)
class ProbePlan:
    """One probe of one container."""

    kind: ProbeKind
    timing: ProbeTiming
    ask: ExecAsk | HttpAsk | TcpAsk | GrpcAsk | Unaskable


def plan_probes(container: core_v1.Container) -> Mapping[ProbeKind, ProbePlan]:
    """The probes a container has, by kind."""
    given = {
        ProbeKind.STARTUP: container.startupProbe,
        ProbeKind.READINESS: container.readinessProbe,
        ProbeKind.LIVENESS: container.livenessProbe,
    }
    return {kind: _plan(kind, probe, container) for kind, probe in given.items() if probe is not None}


def _plan(kind: ProbeKind, probe: core_v1.Probe, container: core_v1.Container) -> ProbePlan:
    timing = ProbeTiming(
        initial_delay_s=probe.initialDelaySeconds or 0,
        period_s=probe.periodSeconds or 10,
        timeout_s=probe.timeoutSeconds or 1,
        success_threshold=probe.successThreshold or 1,
        failure_threshold=probe.failureThreshold or 3,
    )
    return ProbePlan(kind, timing, _ask(probe, container))


def _ask(probe: core_v1.Probe, container: core_v1.Container) -> ExecAsk | HttpAsk | TcpAsk | GrpcAsk | Unaskable:
    if probe.exec is not None:
        return ExecAsk(tuple(probe.exec.command or ()))
    if probe.httpGet is not None:
        get = probe.httpGet
        port = resolve_port(get.port, container.ports or ())
        if isinstance(port, Unaskable):
            return port
        headers = tuple((header.name, header.value) for header in get.httpHeaders or ())
        return HttpAsk((get.scheme or "HTTP").lower(), get.host or "", port, get.path or "/", headers)
    if probe.tcpSocket is not None:
        port = resolve_port(probe.tcpSocket.port, container.ports or ())
        return port if isinstance(port, Unaskable) else TcpAsk(probe.tcpSocket.host or "", port)
    if probe.grpc is not None:
        return GrpcAsk(probe.grpc.port, probe.grpc.service or "")
    return Unaskable(f"container {container.name}: missing probe handler")


def resolve_port(port: int | str, ports: Sequence[core_v1.ContainerPort]) -> int | Unaskable:
    """A port's number: given, named among the container's ports, or digits in a string."""
    if isinstance(port, str):
        named = next((known.containerPort for known in ports if known.name == port), None)
        if named is None and not port.isdecimal():
            return Unaskable(f"couldn't find port: {port!r} in container ports")
        port = int(port) if named is None else named
    return port if 0 < port < 65536 else Unaskable(f"invalid port number: {port}")
