"""The preStop hook of a container: what is asked of it before SIGTERM. Pure.

Before: `container_spec/labels` wrote the hook into the container's own annotations, so that an agent which has been
restarted, or whose manifest is gone, still knows it. Next: `run_pre_stop` runs it inside the grace period. Source: API
type LifecycleHandler; KEP-3960 for `sleep`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from lightkube.models import core_v1

from agent.container_spec.labels import CONTAINER_PORTS, CONTAINER_PRESTOP_HANDLER
from agent.probes.plan import ExecAsk, HttpAsk, Unaskable, resolve_port

USER_AGENT = ("User-Agent", "kube-lifecycle/1.36")


@dataclass(frozen=True, slots=True)
class SleepAsk:
    """Only wait."""

    seconds: float


PreStop: TypeAlias = ExecAsk | HttpAsk | SleepAsk | Unaskable


def parse_pre_stop(annotations: Mapping[str, str]) -> PreStop | None:
    """The hook that a container's annotations tell of, None where there is none."""
    text = annotations.get(CONTAINER_PRESTOP_HANDLER)
    if not text:
        return None
    try:
        handler = msgspec.json.decode(text, type=core_v1.LifecycleHandler)
        ports = msgspec.json.decode(annotations.get(CONTAINER_PORTS) or "[]", type=list[core_v1.ContainerPort])
    except ValueError as error:  # what msgspec raises is one
        return Unaskable(f"cannot read the annotation {CONTAINER_PRESTOP_HANDLER}: {error}")
    return _ask(handler, ports)


def _ask(handler: core_v1.LifecycleHandler, ports: list[core_v1.ContainerPort]) -> PreStop:
    if handler.exec is not None:
        return ExecAsk(tuple(handler.exec.command or ()))
    if handler.sleep is not None:
        return SleepAsk(float(handler.sleep.seconds))
    if handler.httpGet is None:
        return Unaskable("it has no handler: exec, httpGet or sleep")
    get = handler.httpGet
    port = resolve_port(get.port, ports)
    if isinstance(port, Unaskable):
        return port
    headers = tuple((one.name, one.value) for one in get.httpHeaders or ())
    if all(name.lower() != "user-agent" for name, _ in headers):
        headers = (*headers, USER_AGENT)
    return HttpAsk((get.scheme or "HTTP").lower(), get.host or "", port, get.path or "/", headers)
