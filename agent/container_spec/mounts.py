"""The mounts of a container: its volumes, the pod's hosts file, its termination log.

Pure.  Before: agent/volumes has made the directories and files on the host, whose paths come in.  Next: container.py.
Sources: API fields `volumeMounts`, `terminationMessagePath`; mount_namespaces(7) for propagation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lightkube.models import core_v1

from agent.container_spec.facts import SpecError, SpecFacts
from agent.container_spec.paths import etc_hosts_path, termination_log_path
from agent.container_spec.references import is_of_objects
from cri_client import types as cri

ETC_HOSTS = "/etc/hosts"

_PROPAGATION = {
    None: cri.MountPropagation.PROPAGATION_PRIVATE,
    "None": cri.MountPropagation.PROPAGATION_PRIVATE,
    "HostToContainer": cri.MountPropagation.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": cri.MountPropagation.PROPAGATION_BIDIRECTIONAL,
}


def container_mounts(
    pod: core_v1.Pod, container: core_v1.Container, attempt: int, facts: SpecFacts, volume_paths: Mapping[str, str]
) -> tuple[cri.Mount, ...]:
    """Every mount of one attempt of a container, in the order the kubelet gives them.

    `volume_paths`: volume name -> directory or file on the host.  Raises SpecError when a volume has no path yet.
    """
    uid = (pod.metadata.uid if pod.metadata else None) or ""
    read_only = {volume.name for volume in (pod.spec.volumes if pod.spec else None) or [] if is_of_objects(volume)}
    mounts = [_volume_mount(container, mount, volume_paths, read_only) for mount in container.volumeMounts or []]
    if mounts_hosts_file(pod, container, facts):
        mounts.append(
            cri.Mount(
                container_path=ETC_HOSTS, host_path=etc_hosts_path(facts.root_dir, uid), selinux_relabel=facts.selinux
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


def _volume_mount(
    container: core_v1.Container,
    mount: core_v1.VolumeMount,
    volume_paths: Mapping[str, str],
    read_only: Collection[str],
) -> cri.Mount:
    if mount.name not in volume_paths:
        raise SpecError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
    return cri.Mount(
        container_path=_absolute(mount.mountPath),
        host_path=volume_paths[mount.name],
        readonly=bool(mount.readOnly) or mount.name in read_only,
        propagation=_PROPAGATION[mount.mountPropagation],
    )


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
