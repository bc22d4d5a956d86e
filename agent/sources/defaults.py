"""The defaults an API server sets on a Pod, for pods that no API server has seen.

Pure, except that it fills in the object it is given, which manifest.py has just decoded and nobody else holds.
Before: strict decoding. Next: validation.py, then the identity of a static pod.  Source: the defaults written in the
API reference of each field.
"""

from __future__ import annotations

from lightkube.models import core_v1

from agent.container_spec.pod_resources import container_sum, is_pod_level

TERMINATION_GRACE_S = 30
VOLUME_FILE_MODE = 0o644
TERMINATION_MESSAGE_PATH = "/dev/termination-log"


def apply_defaults(pod: core_v1.Pod) -> None:
    """Set every default of pod, containers, probes, ports and volumes that is not set."""
    spec = pod.spec
    if spec is None:
        return
    spec.restartPolicy = spec.restartPolicy or "Always"
    spec.dnsPolicy = spec.dnsPolicy or "ClusterFirst"
    spec.schedulerName = spec.schedulerName or "default-scheduler"
    if spec.terminationGracePeriodSeconds is None:
        spec.terminationGracePeriodSeconds = TERMINATION_GRACE_S
    if spec.securityContext is None:
        spec.securityContext = core_v1.PodSecurityContext()
    if spec.enableServiceLinks is None:
        spec.enableServiceLinks = True
    for container in [*spec.containers, *(spec.initContainers or [])]:
        _default_container(container, bool(spec.hostNetwork))
    _default_pod_resources(pod)
    for volume in spec.volumes or []:
        _default_volume(volume)


def default_ephemeral(container: core_v1.EphemeralContainer) -> None:
    """Set the defaults of a container that is put into a pod later."""
    _default_container(container, host_network=False)


def _default_container(container: core_v1.Container | core_v1.EphemeralContainer, host_network: bool) -> None:
    if not container.imagePullPolicy:
        container.imagePullPolicy = default_pull_policy(container.image or "")
    container.terminationMessagePath = container.terminationMessagePath or TERMINATION_MESSAGE_PATH
    container.terminationMessagePolicy = container.terminationMessagePolicy or "File"
    for port in container.ports or []:
        port.protocol = port.protocol or "TCP"
        if host_network and not port.hostPort:
            port.hostPort = port.containerPort
    for entry in container.env or []:
        if entry.valueFrom and entry.valueFrom.fieldRef and not entry.valueFrom.fieldRef.apiVersion:
            entry.valueFrom.fieldRef.apiVersion = "v1"
    for probe in (container.livenessProbe, container.readinessProbe, container.startupProbe):
        if probe is not None:
            _default_probe(probe)
    for hook in (container.lifecycle.postStart, container.lifecycle.preStop) if container.lifecycle is not None else ():
        if hook is not None:
            _default_http_get(hook.httpGet)
    resources = container.resources
    if resources is not None and resources.limits:
        resources.requests = {**resources.limits, **(resources.requests or {})}


def _default_pod_resources(pod: core_v1.Pod) -> None:
    """What the pod as a whole is limited in and does not ask for: what its containers ask for, else the limit."""
    whole = pod.spec.resources if pod.spec else None
    if whole is None or not (whole.limits or whole.requests):
        return
    try:
        of_containers = container_sum(pod, "requests")
    except ValueError:  # not a quantity: validation says so
        return
    known = {name: f"{amount}m" for name, amount in of_containers.items() if is_pod_level(name)}
    whole.requests = {**(whole.limits or {}), **known, **(whole.requests or {})}


def _default_http_get(get: core_v1.HTTPGetAction | None) -> None:
    if get is not None:
        get.path = get.path or "/"
        get.scheme = get.scheme or "HTTP"


def _default_probe(probe: core_v1.Probe) -> None:
    probe.timeoutSeconds = probe.timeoutSeconds or 1
    probe.periodSeconds = probe.periodSeconds or 10
    probe.successThreshold = probe.successThreshold or 1
    probe.failureThreshold = probe.failureThreshold or 3
    _default_http_get(probe.httpGet)
    if probe.grpc is not None:
        probe.grpc.service = probe.grpc.service or ""


def _default_volume(volume: core_v1.Volume) -> None:
    plain = (volume.hostPath, volume.image, volume.nfs)
    of_objects = (volume.configMap, volume.secret, volume.downwardAPI, volume.projected)
    # support.py has refused every other source.
    if volume.emptyDir is None and all(one is None for one in (*plain, *of_objects)):
        volume.emptyDir = core_v1.EmptyDirVolumeSource()
    if volume.image is not None and not volume.image.pullPolicy:
        volume.image.pullPolicy = default_pull_policy(volume.image.reference or "")
    if volume.hostPath is not None and volume.hostPath.type is None:
        volume.hostPath.type = ""
    for source in of_objects:
        if source is not None and source.defaultMode is None:
            source.defaultMode = VOLUME_FILE_MODE
    files = [*((volume.downwardAPI.items if volume.downwardAPI else None) or [])]
    for part in (volume.projected.sources if volume.projected else None) or []:
        files += (part.downwardAPI.items if part.downwardAPI else None) or []
    for item in files:
        if item.fieldRef is not None and not item.fieldRef.apiVersion:
            item.fieldRef.apiVersion = "v1"


def default_pull_policy(image: str) -> str:
    """Always for the tag "latest", which moves, else IfNotPresent."""
    return "Always" if image_tag(image) == "latest" else "IfNotPresent"


def image_tag(image: str) -> str:
    """The tag of an image name: "latest" when it has neither tag nor digest, "" when only a digest names it."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if colon:
        return tag
    return "" if digest else "latest"
