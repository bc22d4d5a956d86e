"""The mounts of a container: its volumes, the pod's hosts file, its termination log.

Pure.  Before: agent/volumes has made the directories and files on the host, whose paths come in.  Next: container.py.
Parts of volumes (subPath) are bound by agent/volumes/sub_paths.py.  Sources: API fields `volumeMounts`,
`terminationMessagePath`; mount_namespaces(7) for propagation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lightkube.models import core_v1

from agent.container_spec.bound_volume import is_read_only
from agent.container_spec.env import expand, unset_references
from agent.container_spec.facts import SpecError, SpecFacts
from agent.container_spec.labels import uid_of
from agent.container_spec.paths import etc_hosts_path, sub_path_target, termination_log_path
from agent.container_spec.references import is_of_objects
from agent.container_spec.security import user_mappings
from cri_client import types as cri

ETC_HOSTS = "/etc/hosts"

_PROPAGATION = {
    None: cri.MountPropagation.PROPAGATION_PRIVATE,
    "None": cri.MountPropagation.PROPAGATION_PRIVATE,
    "HostToContainer": cri.MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": cri.MountPropagation.PROPAGATION_BIDIRECTIONAL,
}


def container_mounts(
    pod: core_v1.Pod,
    container: core_v1.Container,
    attempt: int,
    facts: SpecFacts,
    volume_paths: Mapping[str, str],
    variables: Mapping[str, str],
) -> tuple[cri.Mount, ...]:
    """Every mount of one attempt of a container, in the order the kubelet gives them.

    `volume_paths`: volume name -> directory or file on the host, `variables` the container's.  Raises SpecError when a
    volume has no path yet, or a part of it cannot be named.
    """
    uid = uid_of(pod)
    users = user_mappings(facts.user_range)
    mounts = list(_volume_mounts(pod, container, facts, volume_paths, variables))
    if mounts_hosts_file(pod, container, facts):
        mounts.append(
            cri.Mount(
                container_path=ETC_HOSTS,
                host_path=etc_hosts_path(facts.root_dir, uid),
                selinux_relabel=facts.selinux,
                uidMappings=users,
                gidMappings=users,
            )
        )
    if container.terminationMessagePath:
        mounts.append(
            cri.Mount(
                container_path=_absolute(container.terminationMessagePath),
                host_path=termination_log_path(facts.root_dir, uid, container.name, attempt),
                selinux_relabel=facts.selinux,
            )
        )
    return tuple(mounts)


def mounts_hosts_file(pod: core_v1.Pod, container: core_v1.Container, facts: SpecFacts) -> bool:
    """Does the agent provide /etc/hosts?  Not before the pod has an address, nor over a volume mounted there."""
    known = bool(facts.pod_ips) or bool(pod.spec and pod.spec.hostNetwork)
    return known and all(mount.mountPath != ETC_HOSTS for mount in container.volumeMounts or [])


def _volume_mounts(
    pod: core_v1.Pod,
    container: core_v1.Container,
    facts: SpecFacts,
    volume_paths: Mapping[str, str],
    variables: Mapping[str, str],
) -> Iterator[cri.Mount]:
    volumes = (pod.spec.volumes if pod.spec else None) or []
    read_only = {one.name for one in volumes if is_of_objects(one) or is_read_only(one)}
    users = user_mappings(facts.user_range)
    for index, mount in enumerate(container.volumeMounts or []):
        part = sub_path_of(mount, variables)
        if mount.name in facts.volume_images:
            yield _image_mount(mount, facts.volume_images[mount.name], part, facts)
            continue
        if mount.name not in volume_paths:
            raise SpecError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
        target = sub_path_target(facts.root_dir, uid_of(pod), mount.name, container.name, index)
        yield cri.Mount(
            container_path=_absolute(mount.mountPath),
            host_path=target if part else volume_paths[mount.name],
            readonly=bool(mount.readOnly) or mount.name in read_only,
            propagation=_PROPAGATION[mount.mountPropagation],
            uidMappings=users,
            gidMappings=users,
            recursive_read_only=_recursive_read_only(mount, facts),
        )


def _recursive_read_only(mount: core_v1.VolumeMount, facts: SpecFacts) -> bool:
    """Whether mounts below are read-only, too. Raises SpecError, in the kubelet's words."""
    supported = facts.handler.recursive_read_only
    if mount.recursiveReadOnly == "Enabled" and not supported:
        cause = f'volume "{mount.name}" requested recursive read-only mode, but it is not supported by the runtime'
        raise SpecError(f"failed to resolve recursive read-only mode: {cause}")
    return mount.recursiveReadOnly in ("Enabled", "IfPossible") and supported


def _image_mount(mount: core_v1.VolumeMount, image_ref: str, part: str, facts: SpecFacts) -> cri.Mount:
    """An image, which the runtime itself mounts, and nobody writes."""
    return cri.Mount(
        container_path=_absolute(mount.mountPath),
        readonly=True,
        image=cri.ImageSpec(image=image_ref),
        image_sub_path=part,
        propagation=_PROPAGATION[mount.mountPropagation],
        recursive_read_only=_recursive_read_only(mount, facts),
    )


def sub_path_of(mount: core_v1.VolumeMount, variables: Mapping[str, str]) -> str:
    """The part of the volume that is mounted, "" for all of it. Raises SpecError, in the kubelet's words."""
    path = mount.subPath or ""
    if mount.subPathExpr:
        if missing := unset_references(mount.subPathExpr, variables):
            raise SpecError(f"missing value for {', '.join(missing)}")
        path = expand(mount.subPathExpr, variables)
    if path.startswith("/"):
        raise SpecError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise SpecError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
