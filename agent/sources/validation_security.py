"""Are the security contexts of a pod and its containers what an API server would have accepted?

Pure.  Called by validation.py and validation_container.py.  Each check yields (path, message).  What a node may refuse
by its configuration (unsafe sysctls) or cannot do (AppArmor, groups, user namespaces) is for admission.  Source: the
constraints written in the API reference of `securityContext`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from lightkube.models import core_v1

from daemonkit.yaml_text import Path

Problems: TypeAlias = Iterator[tuple[Path, str]]

MAX_ID = (1 << 31) - 1
MAX_PROFILE_CHARS = 4095
PROFILES = ("RuntimeDefault", "Localhost", "Unconfined")
_SYSCTL = re.compile(r"[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?(?:[./][a-z0-9](?:[-_a-z0-9]*[a-z0-9])?)*\Z")
# What runc, sysctl(8) or a log could take for something else (CVE-2022-0811 was a `+` in a value).
_SYSCTL_VALUE = re.compile(r"[^+=\x00-\x08\x0a-\x1f\x7f]*\Z")
_SAME_ID = ("runAsUser", "runAsGroup")


def validate_pod_security(spec: core_v1.PodSpec) -> Problems:
    """Every problem of the pod's security context and of what its namespaces share."""
    here: Path = ("spec", "securityContext")
    if spec.shareProcessNamespace and spec.hostPID:
        yield ("spec", "shareProcessNamespace"), "must not be set together with hostPID"
    if spec.hostUsers is False:
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if getattr(spec, name):
                yield ("spec", name), "must not be set in a pod with hostUsers: false"
    context = spec.securityContext or core_v1.PodSecurityContext()
    for name in (*_SAME_ID, "fsGroup"):
        yield from _number_id(getattr(context, name), (*here, name))
    for index, group in enumerate(context.supplementalGroups or []):
        yield from _number_id(group, (*here, "supplementalGroups", index))
    yield from _choice(context.supplementalGroupsPolicy, ("Merge", "Strict"), (*here, "supplementalGroupsPolicy"))
    yield from _choice(context.fsGroupChangePolicy, ("OnRootMismatch", "Always"), (*here, "fsGroupChangePolicy"))
    yield from _profiles(context, here)
    yield from _sysctls(spec, context, here)


def validate_security(context: core_v1.SecurityContext | None, where: Path, spec: core_v1.PodSpec) -> Problems:
    """Every problem of a container's security context."""
    if context is None:
        return
    for name in _SAME_ID:
        yield from _number_id(getattr(context, name), (*where, name))
    yield from _profiles(context, where)
    yield from _choice(context.procMount, ("Default", "Unmasked"), (*where, "procMount"))
    if context.procMount == "Unmasked" and spec.hostUsers is not False:
        yield (*where, "procMount"), "Unmasked needs hostUsers: false"
    if context.allowPrivilegeEscalation is False:
        here: Path = (*where, "allowPrivilegeEscalation")
        if context.privileged:
            yield here, "must not be false for a privileged container"
        added = (context.capabilities.add if context.capabilities else None) or []
        if "CAP_SYS_ADMIN" in added:
            yield here, "must not be false for a container with CAP_SYS_ADMIN"


def _profiles(context: core_v1.PodSecurityContext | core_v1.SecurityContext, where: Path) -> Problems:
    for kind in ("seccompProfile", "appArmorProfile"):
        profile = getattr(context, kind)
        if profile is None:
            continue
        here: Path = (*where, kind)
        yield from _choice(profile.type, PROFILES, (*here, "type"))
        name = profile.localhostProfile
        if profile.type != "Localhost":
            if name is not None:
                yield (*here, "localhostProfile"), "may only be set for type Localhost"
        elif not (name or "").strip():
            yield (*here, "localhostProfile"), "must be set for type Localhost, and not be empty"
        elif kind == "seccompProfile":
            if name.startswith("/") or ".." in name.split("/"):
                yield (*here, "localhostProfile"), f"{name!r} must be a relative path without '..'"
        elif name != name.strip() or len(name) > MAX_PROFILE_CHARS:
            yield (
                (*here, "localhostProfile"),
                f"must have no blanks around it and at most {MAX_PROFILE_CHARS} characters",
            )


def _sysctls(spec: core_v1.PodSpec, context: core_v1.PodSecurityContext, here: Path) -> Problems:
    seen: set[str] = set()
    for index, sysctl in enumerate(context.sysctls or []):
        where: Path = (*here, "sysctls", index, "name")
        name = sysctl.name.replace("/", ".")
        if name in seen:
            yield where, f"duplicate sysctl {name!r}"
        seen.add(name)
        if len(sysctl.name) > 253 or not _SYSCTL.match(sysctl.name):
            yield where, f"{sysctl.name!r} is not the name of a sysctl"
        elif spec.hostNetwork and name.startswith("net."):
            yield where, f"{name!r} may not be set in a pod with hostNetwork"
        elif spec.hostIPC and name.startswith(("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")):
            yield where, f"{name!r} may not be set in a pod with hostIPC"
        if not _SYSCTL_VALUE.match(sysctl.value):
            yield (*here, "sysctls", index, "value"), f"{sysctl.value!r} has characters that no sysctl has"


def _choice(value: str | None, allowed: tuple[str, ...], where: Path) -> Problems:
    if value is not None and value not in allowed:
        yield where, f"{value!r} must be one of {', '.join(allowed)}"


def _number_id(number: int | None, where: Path) -> Problems:
    if number is not None and not 0 <= number <= MAX_ID:
        yield where, f"must be between 0 and {MAX_ID}, not {number}"
