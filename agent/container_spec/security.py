"""Whom a container runs as and what it may do: the effective security context.

Pure.  Before: admission has refused what this node cannot honour; agent/pods/seccomp_file has read a profile of the
node's disk.  Next: container.py and sandbox.py.  A field of the container wins over the same field of the pod.
Sources: API types `SecurityContext`, `PodSecurityContext`; no_new_privs in Documentation/userspace-api; the masked
paths are those of moby's OCI default.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from lightkube.models import core_v1

from agent.container_spec.bound_volume import storage_group
from agent.container_spec.facts import ImageUser, SpecError, SpecFacts
from cri_client import types as cri

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


ID_RANGE = 65536


def user_mappings(first_id: int | None) -> tuple[cri.IDMapping, ...]:
    """The pod's users 0 to 65535 on the machine's from `first_id` on; nothing where it has none of its own."""
    return () if first_id is None else (cri.IDMapping(host_id=first_id, container_id=0, length=ID_RANGE),)


def namespace_options(pod: core_v1.Pod, first_id: int | None = None, target_id: str = "") -> cri.NamespaceOption:
    """Which namespaces the pod shares with the node, and whether its containers see each other's processes, or only
    those of the container `target_id`; `first_id` as in `user_mappings`.
    """
    spec = pod.spec
    mode = cri.NamespaceMode
    pid = mode.CONTAINER
    if spec and spec.hostPID:
        pid = mode.NODE
    elif spec and spec.shareProcessNamespace:
        pid = mode.POD
    elif target_id:
        pid = mode.TARGET
    return cri.NamespaceOption(
        network=mode.NODE if spec and spec.hostNetwork else mode.POD,
        pid=pid,
        ipc=mode.NODE if spec and spec.hostIPC else mode.POD,
        target_id=target_id if pid is mode.TARGET else "",
        userns_options=None
        if first_id is None
        else cri.UserNamespace(mode=mode.POD, uids=user_mappings(first_id), gids=user_mappings(first_id)),
    )


def sandbox_security(pod: core_v1.Pod, first_id: int | None = None) -> cri.LinuxSandboxSecurityContext:
    """The security context of the sandbox; its own process always runs under the runtime's default seccomp profile."""
    context = (pod.spec.securityContext if pod.spec else None) or core_v1.PodSecurityContext()
    return cri.LinuxSandboxSecurityContext(
        namespace_options=namespace_options(pod, first_id),
        run_as_user=_int64(context.runAsUser),
        run_as_group=_int64(context.runAsGroup),
        supplemental_groups=supplemental_groups(pod),
        supplemental_groups_policy=_groups_policy(context),
        privileged=has_privileged_container(pod),
        selinux_options=_selinux(context.seLinuxOptions),
        seccomp=cri.SecurityProfile(profile_type=cri.ProfileType.RuntimeDefault),
    )


def container_security(
    pod: core_v1.Pod, container: core_v1.Container, facts: SpecFacts, image_user: ImageUser, target_id: str = ""
) -> cri.LinuxContainerSecurityContext:
    """The effective security context of a container.  Raises SpecError when runAsNonRoot cannot be promised."""
    of_pod = (pod.spec.securityContext if pod.spec else None) or core_v1.PodSecurityContext()
    own = container.securityContext or core_v1.SecurityContext()
    refusal = non_root_problem(pod, container, image_user)
    if refusal:
        raise SpecError(refusal)
    user = _first(own.runAsUser, of_pod.runAsUser)
    username = ""
    if user is None:
        user, username = image_user.uid, image_user.username
    capabilities = own.capabilities
    return cri.LinuxContainerSecurityContext(
        capabilities=cri.Capability(
            add_capabilities=tuple(capabilities.add or ()), drop_capabilities=tuple(capabilities.drop or ())
        )
        if capabilities
        else None,
        privileged=bool(own.privileged),
        namespace_options=namespace_options(pod, facts.user_range, target_id),
        run_as_user=_int64(user),
        run_as_group=_int64(_first(own.runAsGroup, of_pod.runAsGroup)),
        run_as_username=username,
        readonly_rootfs=bool(own.readOnlyRootFilesystem),
        supplemental_groups=supplemental_groups(pod),
        supplemental_groups_policy=_groups_policy(of_pod),
        no_new_privs=own.allowPrivilegeEscalation is False,
        masked_paths=() if own.procMount == "Unmasked" else (*MASKED_PATHS, *facts.node.thermal_throttle_paths),
        readonly_paths=() if own.procMount == "Unmasked" else READONLY_PATHS,
        selinux_options=_selinux(own.seLinuxOptions or of_pod.seLinuxOptions),
        seccomp=seccomp_profile(own.seccompProfile or of_pod.seccompProfile, facts),
        apparmor=apparmor_profile(own.appArmorProfile or of_pod.appArmorProfile),
        apparmor_profile=_old_apparmor_name(own.appArmorProfile or of_pod.appArmorProfile),
    )


def seccomp_profile(profile: core_v1.SeccompProfile | None, facts: SpecFacts) -> cri.SecurityProfile:
    """The profile the pod or container names; without one, unconfined unless the node's seccompDefault is set.

    Raises SpecError for a profile of the node's disk that is not named.
    """
    wanted = profile.type if profile else ("RuntimeDefault" if facts.seccomp_default else "Unconfined")
    kinds = cri.ProfileType
    if profile is None or wanted != "Localhost":
        return cri.SecurityProfile(
            profile_type=kinds.RuntimeDefault if wanted == "RuntimeDefault" else kinds.Unconfined
        )
    return cri.SecurityProfile(profile_type=kinds.Localhost, localhost_ref=seccomp_path(profile, facts.root_dir))


def seccomp_path(profile: core_v1.SeccompProfile, root_dir: str) -> str:
    """Where a profile of type Localhost lies.  Raises SpecError for a name that is empty or leads elsewhere."""
    name = (profile.localhostProfile or "").strip()
    if not name:
        raise SpecError("localhostProfile must be set if seccompProfile type is Localhost.")
    if name.startswith("/") or ".." in name.split("/"):
        raise SpecError(f"localhostProfile {name!r} of seccompProfile must be a relative path without '..'")
    return str(PurePosixPath(root_dir, "seccomp", name))


def local_seccomp_paths(pod: core_v1.Pod, container: core_v1.Container, root_dir: str) -> tuple[str, ...]:
    """The profile of the node's disk that the container would run under, if it names one.  Raises SpecError."""
    of_pod = pod.spec.securityContext.seccompProfile if pod.spec and pod.spec.securityContext else None
    profile = (container.securityContext.seccompProfile if container.securityContext else None) or of_pod
    return (seccomp_path(profile, root_dir),) if profile is not None and profile.type == "Localhost" else ()


def apparmor_profile(profile: core_v1.AppArmorProfile | None) -> cri.SecurityProfile | None:
    """The profile of AppArmor; None leaves it to the runtime."""
    if profile is None:
        return None
    kinds = cri.ProfileType
    if profile.type == "Localhost":
        return cri.SecurityProfile(profile_type=kinds.Localhost, localhost_ref=profile.localhostProfile or "")
    return cri.SecurityProfile(
        profile_type=kinds.RuntimeDefault if profile.type == "RuntimeDefault" else kinds.Unconfined
    )


def _old_apparmor_name(profile: core_v1.AppArmorProfile | None) -> str:
    """The same in the CRI's older field, which is all that containerd 1.6 reads."""
    if profile is None:
        return ""
    names = {"RuntimeDefault": "runtime/default", "Unconfined": "unconfined"}
    return names.get(profile.type, f"localhost/{profile.localhostProfile}")


def _selinux(options: core_v1.SELinuxOptions | None) -> cri.SELinuxOption | None:
    if options is None:
        return None
    return cri.SELinuxOption(
        user=options.user or "", role=options.role or "", type=options.type or "", level=options.level or ""
    )


def non_root_problem(pod: core_v1.Pod, container: core_v1.Container, image_user: ImageUser) -> str | None:
    """Why runAsNonRoot forbids this container, or None.  Only a numeric user can be checked."""
    of_pod = (pod.spec.securityContext if pod.spec else None) or core_v1.PodSecurityContext()
    own = container.securityContext or core_v1.SecurityContext()
    if not _first(own.runAsNonRoot, of_pod.runAsNonRoot):
        return None
    user = _first(own.runAsUser, of_pod.runAsUser)
    if user is not None:
        return "container's runAsUser breaks non-root policy" if user == 0 else None
    if image_user.uid is None and image_user.username:
        return (
            f"container has runAsNonRoot and image has non-numeric user ({image_user.username}), "
            "cannot verify user is non-root"
        )
    return None if image_user.uid else "container has runAsNonRoot and image will run as root"


def supplemental_groups(pod: core_v1.Pod) -> tuple[int, ...]:
    """fsGroup first, then the groups the pod names, then those that what it claims belongs to."""
    spec = pod.spec or core_v1.PodSpec(containers=[])
    context = spec.securityContext or core_v1.PodSecurityContext()
    groups = [*([] if context.fsGroup is None else [context.fsGroup]), *(context.supplementalGroups or [])]
    of_storage = [one for one in map(storage_group, spec.volumes or ()) if one is not None]
    return (*groups, *(one for one in dict.fromkeys(of_storage) if one not in (context.supplementalGroups or ())))


def has_privileged_container(pod: core_v1.Pod) -> bool:
    """Is any container or init container privileged?  Then the sandbox must be, too."""
    spec = pod.spec
    containers = [*spec.containers, *(spec.initContainers or [])] if spec else []
    return any(one.securityContext is not None and bool(one.securityContext.privileged) for one in containers)


def _groups_policy(context: core_v1.PodSecurityContext) -> cri.SupplementalGroupsPolicy:
    strict = context.supplementalGroupsPolicy == "Strict"
    return cri.SupplementalGroupsPolicy.Strict if strict else cri.SupplementalGroupsPolicy.Merge


def _first(own: int | None, of_pod: int | None) -> int | None:
    return of_pod if own is None else own


def _int64(number: int | None) -> cri.Int64Value | None:
    return None if number is None else cri.Int64Value(value=number)
