"""What a pod's PersistentVolumeClaims are bound to, judged as the kubelet does.  Pure.

Before: `claim_keeper` has read a claim and its volume.  Next: the `Storage` that the pod's volume is.  Source:
Kubernetes documentation, "Persistent Volumes"; KEP-2485 (ReadWriteOncePod), KEP-1698 (generic ephemeral volumes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec
from lightkube.models import core_v1

from agent.container_spec.bound_volume import HOST_PATH, LOCAL, NFS, Storage
from agent.container_spec.labels import uid_of
from agent.placement import any_fits

BOUND = "Bound"
BLOCK = "Block"
ONE_POD = "ReadWriteOncePod"
_GROUP_ANNOTATION = "pv.beta.kubernetes.io/gid"
_OPTIONS_ANNOTATION = "volume.beta.kubernetes.io/mount-options"
_SOURCES_HERE = "hostPath, local and nfs"


class ClaimError(ValueError):
    """Why a claim cannot be used, now or ever."""


def claim_of(pod: core_v1.Pod, volume: core_v1.Volume) -> str:
    """The name of the claim that the volume is, "" for another volume."""
    if volume.persistentVolumeClaim is not None:
        return volume.persistentVolumeClaim.claimName
    name = (pod.metadata.name if pod.metadata else None) or ""
    return f"{name}-{volume.name}" if volume.ephemeral is not None else ""


def claim_volumes(pod: core_v1.Pod) -> Iterator[tuple[core_v1.Volume, str]]:
    """Each volume of the pod that is a claim, with the claim's name."""
    for volume in (pod.spec.volumes if pod.spec else None) or ():
        if claim := claim_of(pod, volume):
            yield volume, claim


def uses_claim(pod: core_v1.Pod, namespace: str, name: str) -> bool:
    """Whether a volume of the pod is this claim."""
    own = (pod.metadata.namespace if pod.metadata else None) or ""
    return own == namespace and any(claim == name for _, claim in claim_volumes(pod))


def volume_name(pod: core_v1.Pod, volume: core_v1.Volume, claim: core_v1.PersistentVolumeClaim) -> str:
    """The PersistentVolume that the claim is bound to. Raises ClaimError."""
    meta, status = claim.metadata, claim.status
    if volume.ephemeral is not None and not _is_owned(pod, claim):
        name = (pod.metadata.name if pod.metadata else None) or ""
        raise ClaimError(
            f"PVC {meta.namespace if meta else ''}/{meta.name if meta else ''} was not created for pod {name} "
            "(pod is not owner)"
        )
    if meta is not None and meta.deletionTimestamp is not None:
        raise ClaimError("PVC is being deleted")
    bound = (claim.spec.volumeName if claim.spec else None) or ""
    if status is None or status.phase != BOUND or not bound:
        raise ClaimError("PVC is not bound")
    return bound


def storage_of(
    pod: core_v1.Pod,
    volume: core_v1.Volume,
    claim: core_v1.PersistentVolumeClaim,
    found: core_v1.PersistentVolume,
    node: tuple[str, Mapping[str, str]],
) -> Storage:
    """What is to be mounted; `node` is its name and labels. Raises ClaimError."""
    spec, name = found.spec, (found.metadata.name if found.metadata else None) or ""
    if spec is None or spec.claimRef is None:
        raise ClaimError(
            f"found PV object {name} with nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        )
    uid = (claim.metadata.uid if claim.metadata else None) or ""
    if spec.claimRef.uid != uid:
        raise ClaimError(f"found PV object {name} bound to another claim (UID {spec.claimRef.uid}, not {uid})")
    _check_mode(pod, volume, spec)
    required = spec.nodeAffinity.required if spec.nodeAffinity else None
    if required is not None and not any_fits(required.nodeSelectorTerms, *node):
        raise ClaimError(f"PV {name}: no matching NodeSelectorTerms")
    asked = volume.persistentVolumeClaim
    storage = _storage(found, spec, read_only=bool(asked and asked.readOnly))
    return msgspec.structs.replace(storage, group_id=_group(found))


def is_for_one_pod(claim: core_v1.PersistentVolumeClaim) -> bool:
    """Whether no two pods may use it at a time."""
    return ONE_POD in ((claim.spec.accessModes if claim.spec else None) or ())


def _storage(found: core_v1.PersistentVolume, spec: core_v1.PersistentVolumeSpec, *, read_only: bool) -> Storage:
    name = (found.metadata.name if found.metadata else None) or ""
    options = _mount_options(found)
    if spec.hostPath is not None:
        if options:
            raise ClaimError(f"PV {name}: mount options are not supported for this volume type")
        return Storage(kind=HOST_PATH, path=spec.hostPath.path, path_type=spec.hostPath.type or "", read_only=read_only)
    if spec.local is not None:
        if options:
            raise ClaimError(f"PV {name}: mountOptions of a local volume are not supported yet")
        return Storage(kind=LOCAL, path=spec.local.path, read_only=read_only)
    if spec.nfs is not None:
        return Storage(
            kind=NFS,
            path=spec.nfs.path,
            server=spec.nfs.server,
            read_only=read_only or bool(spec.nfs.readOnly),
            mount_options=options,
        )
    kinds = (field for field in _other_sources(spec) if getattr(spec, field) is not None)
    source = next(kinds, "of an unknown kind")
    raise ClaimError(f"PV {name} is {source}: this node mounts {_SOURCES_HERE} only")


def _group(found: core_v1.PersistentVolume) -> int | None:
    """What is no number is none, as for the kubelet."""
    told = _annotation(found, _GROUP_ANNOTATION)
    return int(told) if told.isascii() and told.isdecimal() else None


def _mount_options(found: core_v1.PersistentVolume) -> tuple[str, ...]:
    """An annotation, older than the field, beats it."""
    if told := _annotation(found, _OPTIONS_ANNOTATION):
        return tuple(told.split(","))
    return tuple((found.spec.mountOptions if found.spec else None) or ())


def _annotation(found: core_v1.PersistentVolume, name: str) -> str:
    return str(((found.metadata.annotations if found.metadata else None) or {}).get(name, ""))


def _other_sources(spec: core_v1.PersistentVolumeSpec) -> Iterator[str]:
    plain = {
        "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
        "storageClassName", "volumeAttributesClassName", "volumeMode",
    }  # fmt: skip
    return (field for field in spec.__struct_fields__ if field not in plain)


def _check_mode(pod: core_v1.Pod, volume: core_v1.Volume, spec: core_v1.PersistentVolumeSpec) -> None:
    block = spec.volumeMode == BLOCK
    mounted = any(one.name == volume.name for one in _uses(pod, lambda container: container.volumeMounts))
    device = any(one.name == volume.name for one in _uses(pod, lambda container: container.volumeDevices))
    if block and mounted:
        raise ClaimError(f"volume {volume.name} has volumeMode Block, but is specified in volumeMounts")
    if device and not block:
        raise ClaimError(f"volume {volume.name} has volumeMode Filesystem, but is specified in volumeDevices")
    if block:
        raise ClaimError(f"volume {volume.name} has volumeMode Block, which is not supported yet")


def _uses(
    pod: core_v1.Pod,
    field: Callable[[core_v1.Container], list[core_v1.VolumeMount] | list[core_v1.VolumeDevice] | None],
) -> Iterator[core_v1.VolumeMount | core_v1.VolumeDevice]:
    spec = pod.spec
    for container in [*(spec.containers if spec else ()), *((spec.initContainers if spec else None) or ())]:
        yield from field(container) or ()


def _is_owned(pod: core_v1.Pod, claim: core_v1.PersistentVolumeClaim) -> bool:
    uid = uid_of(pod)
    owners = (claim.metadata.ownerReferences if claim.metadata else None) or ()
    return any(one.controller and one.uid == uid for one in owners)
