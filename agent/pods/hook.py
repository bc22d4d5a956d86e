"""The hooks of a container: what is asked of it right after its start (postStart) and before SIGTERM (preStop). Pure.

Before: postStart comes from the pod's definition; preStop from the container's own annotations (`container_spec/labels`
wrote it there), so that an agent which has been restarted, or whose manifest is gone, still knows it. Next: `run_hook`
runs them. Source: API type LifecycleHandler; KEP-3960 for `sleep`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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


Hook: TypeAlias = ExecAsk | HttpAsk | SleepAsk | Unaskable


def parse_pre_stop(annotations: Mapping[str, str]) -> Hook | None:
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


def post_start_of(container: core_v1.Container) -> Hook | None:
    """The hook that the definition asks for after the start, None where there is none."""
    handler = container.lifecycle.postStart if container.lifecycle is not None else None
    return None if handler is None else _ask(handler, container.ports or ())


def post_start_error(hook: Hook, container: str, pod: str, error: str, output: bytes = b"") -> str:
    """The message of a container whose postStart hook failed, in the kubelet's words; `pod` is NAME_NAMESPACE(UID)."""
    whose = f'for Container "{container}" in Pod "{pod}" failed - error: {error}'
    if isinstance(hook, ExecAsk):
        quoted = json.dumps(output.decode(errors="replace"), ensure_ascii=False)
        return f"Exec lifecycle hook ([{' '.join(hook.command)}]) {whose}, message: {quoted}"
    if isinstance(hook, HttpAsk):
        return f"HTTP lifecycle hook ({hook.path}) {whose}"
    if isinstance(hook, SleepAsk):
        return f"Sleep lifecycle hook ({hook.seconds:.0f}) {whose}"
    return f"Cannot run handler: {error}"


def _ask(handler: core_v1.LifecycleHandler, ports: Sequence[core_v1.ContainerPort]) -> Hook:
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
