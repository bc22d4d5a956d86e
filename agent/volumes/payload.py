"""The files of configMap, secret, downwardAPI and projected volumes. Pure.

Before: the pod, and the local ConfigMaps and Secrets as they are now.  Next: projection.py writes the files.  Sources:
the API types ConfigMapVolumeSource, SecretVolumeSource, DownwardAPIVolumeSource and ProjectedVolumeSource; the messages
are the kubelet's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from lightkube.models import core_v1

from agent.container_spec.env import field_value, resource_field_value
from agent.container_spec.facts import SpecError, SpecFacts
from agent.container_spec.pod_resources import all_containers
from agent.container_spec.trust_bundles import TrustError, trust_anchors
from kube_objects.config_data import CONFIG_MAP, SECRET, ConfigData, ObjectMissing, ObjectPending

DEFAULT_MODE = 0o644
TOKEN_S = 3600
_ABSENT_KEY = {
    CONFIG_MAP: "configmap references non-existent config key",
    SECRET: "references non-existent secret key",
}
_ESCAPES = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\", '"': r"\"",
}  # fmt: skip


@dataclass(frozen=True)
class ProjectedFile:
    """The content and the permission bits of one file; `user_id` owns it, None is root."""

    data: bytes = field(repr=False)
    mode: int
    user_id: int | None = field(default=None, compare=False)


Payload: TypeAlias = Mapping[str, ProjectedFile]
"""Relative path -> file; the paths are those that validation has let through."""


class PayloadError(Exception):
    """A volume cannot be filled now: something that it is made of is absent. The text is the kubelet's."""


def volume_payload(pod: core_v1.Pod, volume: core_v1.Volume, facts: SpecFacts) -> Payload | None:
    """What a volume holds now, None for kinds that are not made of objects. Raises PayloadError."""
    if volume.configMap is not None:
        source = volume.configMap
        return _of_object(pod, CONFIG_MAP, source.name, source.optional, source.items, _mode(source.defaultMode), facts)
    if volume.secret is not None:
        secret = volume.secret
        mode = _mode(secret.defaultMode)
        return _of_object(pod, SECRET, secret.secretName, secret.optional, secret.items, mode, facts)
    if volume.downwardAPI is not None:
        return _of_pod(pod, volume.downwardAPI.items or (), _mode(volume.downwardAPI.defaultMode), facts)
    if volume.projected is not None:
        return _projected(pod, volume.projected, facts)
    return None


def _projected(pod: core_v1.Pod, source: core_v1.ProjectedVolumeSource, facts: SpecFacts) -> Payload:
    mode = _mode(source.defaultMode)
    files: dict[str, ProjectedFile] = {}
    problems: list[str] = []
    for part in source.sources or ():
        try:
            files.update(_of_part(pod, part, mode, facts))
        except PayloadError as problem:
            problems.append(str(problem))
    if different := list(dict.fromkeys(problems)):
        raise PayloadError(different[0] if len(different) == 1 else f"[{', '.join(different)}]")
    return files


def _of_part(pod: core_v1.Pod, part: core_v1.VolumeProjection, mode: int, facts: SpecFacts) -> Payload:
    if (config := part.configMap) is not None:
        return _of_object(pod, CONFIG_MAP, config.name, config.optional, config.items, mode, facts)
    if (secret := part.secret) is not None:
        return _of_object(pod, SECRET, secret.name, secret.optional, secret.items, mode, facts)
    if part.serviceAccountToken is not None:
        return _token(pod, part.serviceAccountToken, mode, facts)
    if part.clusterTrustBundle is not None:
        return _trust(pod, part.clusterTrustBundle, mode, facts)
    return _of_pod(pod, (part.downwardAPI.items if part.downwardAPI else None) or (), mode, facts)


def _token(pod: core_v1.Pod, source: core_v1.ServiceAccountTokenProjection, mode: int, facts: SpecFacts) -> Payload:
    key = source.audience or "", source.expirationSeconds or TOKEN_S
    found = facts.tokens.get(key, "failed to fetch token: no API server is asked for tokens of this pod")
    if isinstance(found, str):
        raise PayloadError(found)
    return {source.path: _private(pod, found, mode)}


def _trust(pod: core_v1.Pod, source: core_v1.ClusterTrustBundleProjection, mode: int, facts: SpecFacts) -> Payload:
    bundles = facts.trust_bundles
    if bundles is None:
        raise ObjectPending("the ClusterTrustBundles have not come from the API server yet")
    if isinstance(bundles, str):
        raise PayloadError(bundles)
    try:
        return {source.path: _private(pod, trust_anchors(source, bundles), mode)}
    except TrustError as error:
        raise PayloadError(str(error)) from None


def _private(pod: core_v1.Pod, data: bytes, mode: int) -> ProjectedFile:
    """A file that only the pod's user may read where it is known who that is, else with the volume's mode."""
    security = pod.spec.securityContext if pod.spec else None
    user_id = _only_user(pod)
    private = user_id is not None or (security is not None and security.fsGroup is not None)
    return ProjectedFile(data, 0o600 if private else mode, user_id)


def _only_user(pod: core_v1.Pod) -> int | None:
    """Whom all containers of the pod run as, None where that is not said or differs."""
    security = pod.spec.securityContext if pod.spec else None
    default = security.runAsUser if security is not None else None
    users = {
        one.securityContext.runAsUser
        if one.securityContext is not None and one.securityContext.runAsUser is not None
        else default
        for one in all_containers(pod)
    }
    return users.pop() if len(users) == 1 else None


def _of_object(
    pod: core_v1.Pod,
    resource: str,
    name: str | None,
    optional: bool | None,
    items: Sequence[core_v1.KeyToPath] | None,
    mode: int,
    facts: SpecFacts,
) -> Payload:
    try:
        found = facts.objects.get(resource, (pod.metadata.namespace if pod.metadata else None) or "", name or "")
    except ObjectMissing as missing:
        if not optional:
            raise PayloadError(str(missing)) from None
        found = ConfigData(resource, "", name or "")
    held = {**found.data, **found.binary}
    if not items:
        return {key: ProjectedFile(data, mode) for key, data in held.items()}
    files: dict[str, ProjectedFile] = {}
    for item in items:
        if item.key in held:
            files[item.path] = ProjectedFile(held[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise PayloadError(f"{_ABSENT_KEY[resource]}: {item.key}")
    return files


def _of_pod(pod: core_v1.Pod, items: Sequence[core_v1.DownwardAPIVolumeFile], mode: int, facts: SpecFacts) -> Payload:
    files: dict[str, ProjectedFile] = {}
    for item in items:
        try:
            text = _item_text(pod, item, facts)
        except SpecError as error:
            raise PayloadError(str(error)) from None
        files[item.path] = ProjectedFile(text.encode(), mode if item.mode is None else item.mode)
    return files


def _item_text(pod: core_v1.Pod, item: core_v1.DownwardAPIVolumeFile, facts: SpecFacts) -> str:
    if item.fieldRef is not None:
        path = item.fieldRef.fieldPath
        metadata = pod.metadata
        if path in ("metadata.labels", "metadata.annotations") and metadata is not None:
            return format_map((metadata.labels if path == "metadata.labels" else metadata.annotations) or {})
        return field_value(pod, path, facts)
    if item.resourceFieldRef is not None and pod.spec is not None:
        return resource_field_value(pod, pod.spec.containers[0], item.resourceFieldRef, facts)
    return ""


def format_map(entries: Mapping[str, object]) -> str:
    """Labels or annotations as lines `key="value"` in the order of their keys, the value quoted as Go's %q does."""
    return "\n".join(f'{key}="{_quoted(str(entries[key]))}"' for key in sorted(entries))


def _quoted(text: str) -> str:
    return "".join(_quoted_character(character) for character in text)


def _quoted_character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character == " " or character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _mode(mode: int | None) -> int:
    return DEFAULT_MODE if mode is None else mode
