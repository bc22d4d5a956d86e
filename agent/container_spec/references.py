"""Which ConfigMaps and Secrets a pod refers to.

Pure.  Before: the pod as admission let it in.  Next: agent/pods wakes the pods that a changed object concerns, and
only those.
"""

from __future__ import annotations

from collections.abc import Iterator

from lightkube.models import core_v1

from kube_objects.config_data import CONFIG_MAP, RUNTIME_CLASS, SECRET, ObjectKey


def config_references(pod: core_v1.Pod) -> frozenset[ObjectKey]:
    """Everything the pod refers to: by its variables, its volumes and its pull secrets."""
    spec, namespace = pod.spec, (pod.metadata.namespace if pod.metadata else None) or ""
    if spec is None:
        return frozenset()
    found = set(_of_volumes(spec))
    for container in [*spec.containers, *(spec.initContainers or [])]:
        found.update(_of_environment(container))
    for ephemeral in spec.ephemeralContainers or []:
        found.update(_of_environment(ephemeral))
    found.update((SECRET, one.name or "") for one in spec.imagePullSecrets or [])
    keys = {(resource, namespace, name) for resource, name in found}
    if spec.runtimeClassName:
        keys.add((RUNTIME_CLASS, "", spec.runtimeClassName))
    return frozenset(keys)


def has_config_volumes(pod: core_v1.Pod) -> bool:
    """Whether the pod has volumes whose files follow what they are made of."""
    return any(is_of_objects(volume) for volume in (pod.spec.volumes if pod.spec else None) or [])


def is_of_objects(volume: core_v1.Volume) -> bool:
    """Whether the agent writes the volume's files; containers only read them."""
    sources = (volume.configMap, volume.secret, volume.projected, volume.downwardAPI)
    return any(one is not None for one in sources)


def _of_environment(container: core_v1.Container | core_v1.EphemeralContainer) -> Iterator[tuple[str, str]]:
    for source in container.envFrom or []:
        if source.configMapRef is not None:
            yield CONFIG_MAP, source.configMapRef.name or ""
        if source.secretRef is not None:
            yield SECRET, source.secretRef.name or ""
    for entry in container.env or []:
        if entry.valueFrom is not None and entry.valueFrom.configMapKeyRef is not None:
            yield CONFIG_MAP, entry.valueFrom.configMapKeyRef.name or ""
        if entry.valueFrom is not None and entry.valueFrom.secretKeyRef is not None:
            yield SECRET, entry.valueFrom.secretKeyRef.name or ""


def _of_volumes(spec: core_v1.PodSpec) -> Iterator[tuple[str, str]]:
    for volume in spec.volumes or []:
        if volume.configMap is not None:
            yield CONFIG_MAP, volume.configMap.name or ""
        if volume.secret is not None:
            yield SECRET, volume.secret.secretName or ""
        for source in (volume.projected.sources if volume.projected else None) or []:
            if source.configMap is not None:
                yield CONFIG_MAP, source.configMap.name or ""
            if source.secret is not None:
                yield SECRET, source.secret.name or ""
