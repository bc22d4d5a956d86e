"""Are the hooks, restart policies and deadlines of a defaulted Pod ones that an API server would have accepted?

Pure.  Called by validation.py for each container after validation_container.py, and once for the pod.  Each check
yields (path, message).  Source: the constraints written in the API reference of each field; KEP-753, KEP-5307.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from lightkube.models import core_v1

from agent.sources.validation_container import http_get_problems
from cri_client.types import Signal
from daemonkit.yaml_text import Path
from kube_objects.names import is_qualified_name

Problems: TypeAlias = Iterator[tuple[Path, str]]

RESTART_POLICIES = ("Always", "OnFailure", "Never")
ACTIONS = ("Restart", "RestartAllContainers")
OPERATORS = ("In", "NotIn")
MAX_RULES = 20
MAX_EXIT_CODES = 255
MAX_SECONDS = (1 << 31) - 1
STOP_SIGNALS = frozenset(one.name for one in Signal) - {Signal.RUNTIME_DEFAULT.name}
_FOR_SIDECARS = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")


def validate_pod_lifecycle(spec: core_v1.PodSpec) -> Problems:
    """What concerns the pod as a whole."""
    active_s = spec.activeDeadlineSeconds
    if active_s is not None and not 1 <= active_s <= MAX_SECONDS:
        yield ("spec", "activeDeadlineSeconds"), f"must be between 1 and {MAX_SECONDS}, not {active_s}"
    for index, gate in enumerate(spec.readinessGates or []):
        if problem := is_qualified_name(gate.conditionType):
            yield ("spec", "readinessGates", index, "conditionType"), problem


def validate_lifecycle(container: core_v1.Container, where: Path, spec: core_v1.PodSpec, *, is_init: bool) -> Problems:
    """What concerns one container."""
    yield from _restart_policy(container, where)
    if is_init and container.restartPolicy != "Always":
        for name in _FOR_SIDECARS:
            if getattr(container, name) is not None:
                yield (*where, name), "may not be set for init containers without restartPolicy=Always"
        return
    lifecycle = container.lifecycle or core_v1.Lifecycle()
    yield from _stop_signal(lifecycle.stopSignal, (*where, "lifecycle", "stopSignal"), spec)
    for name in ("postStart", "preStop"):
        hook = getattr(lifecycle, name)
        if hook is not None:
            yield from _hook(hook, (*where, "lifecycle", name), container, spec.terminationGracePeriodSeconds or 0)


def _stop_signal(name: str | None, where: Path, spec: core_v1.PodSpec) -> Problems:
    if name is None:
        return
    if spec.os is None:
        yield where, "may not be set without spec.os.name"
    elif name not in STOP_SIGNALS:
        yield where, f"{name!r} is not the name of a signal, such as SIGUSR1"


def _restart_policy(container: core_v1.Container, where: Path) -> Problems:
    policy, rules = container.restartPolicy, container.restartPolicyRules or []
    if policy is not None and policy not in RESTART_POLICIES:
        yield (*where, "restartPolicy"), f"{policy!r} must be one of {', '.join(RESTART_POLICIES)}"
    if rules and policy is None:
        yield (*where, "restartPolicyRules"), "needs restartPolicy beside it"
    if len(rules) > MAX_RULES:
        yield (*where, "restartPolicyRules"), f"must have at most {MAX_RULES} rules, has {len(rules)}"
    for index, rule in enumerate(rules):
        here: Path = (*where, "restartPolicyRules", index)
        codes = rule.exitCodes
        if rule.action not in ACTIONS:
            yield (*here, "action"), f"{rule.action!r} must be one of {', '.join(ACTIONS)}"
        if codes is None:
            yield (*here, "exitCodes"), "required field is missing"
            continue
        if codes.operator not in OPERATORS:
            yield (*here, "exitCodes", "operator"), f"{codes.operator!r} must be one of {', '.join(OPERATORS)}"
        if len(codes.values or []) > MAX_EXIT_CODES:
            yield (*here, "exitCodes", "values"), f"must have at most {MAX_EXIT_CODES}, has {len(codes.values or [])}"


def _hook(hook: core_v1.LifecycleHandler, where: Path, container: core_v1.Container, grace_s: int) -> Problems:
    kinds = [name for name in ("exec", "httpGet", "sleep") if getattr(hook, name) is not None]
    if len(kinds) != 1:
        yield where, f"must have exactly one handler of exec, httpGet and sleep, has {' and '.join(kinds) or 'none'}"
    if hook.exec is not None and not hook.exec.command:
        yield (*where, "exec", "command"), "required field is missing"
    if hook.httpGet is not None:
        yield from http_get_problems(hook.httpGet, (*where, "httpGet"), container)
    if hook.sleep is not None and not 0 <= hook.sleep.seconds <= grace_s:
        yield (*where, "sleep", "seconds"), f"must be from 0 to terminationGracePeriodSeconds ({grace_s})"
