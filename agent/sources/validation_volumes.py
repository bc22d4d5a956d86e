"""Are the volumes of a defaulted Pod ones that an API server would have accepted?

Pure.  Called by validation.py.  Each check yields (path, message).  Source: the constraints written in the API
reference of each field.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeAlias

from lightkube.models import core_v1

from agent.container_spec.huge_pages import HUGE_PAGES, huge_page_bytes
from agent.sources.validation_container import PULL_POLICIES, object_name, resource_reference
from daemonkit.yaml_text import Path
from kube_objects.names import is_config_key, is_dns_label, is_qualified_name
from kube_objects.quantity import parse_quantity

Problems: TypeAlias = Iterator[tuple[Path, str]]

HOST_PATH_TYPES = ("", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice")
SOURCES = ("emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected", "image", "nfs")
PROJECTIONS = ("configMap", "secret", "downwardAPI")
FIELD_PATHS = ("metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations", "metadata.uid")
MAX_MODE = 0o777
MAX_PATH = 4096
MAX_NAME = 255


def validate_volumes(spec: core_v1.PodSpec) -> Problems:
    """Every problem of the pod's volumes."""
    containers = {one.name for one in [*spec.containers, *(spec.initContainers or [])]}
    seen: set[str] = set()
    for index, volume in enumerate(spec.volumes or []):
        where: Path = ("spec", "volumes", index)
        if problem := is_dns_label(volume.name):
            yield (*where, "name"), problem
        if volume.name in seen:
            yield (*where, "name"), f"duplicate volume name {volume.name!r}"
        seen.add(volume.name)
        sources = [name for name in SOURCES if getattr(volume, name) is not None]
        if len(sources) > 1:
            yield where, f"has more than one source: {' and '.join(sources)}"
        if volume.emptyDir is not None:
            yield from _medium(volume.emptyDir.medium or "", spec, (*where, "emptyDir", "medium"))
        yield from _source(volume, where, containers)


def _medium(medium: str, spec: core_v1.PodSpec, where: Path) -> Problems:
    if medium in ("", "Memory") or huge_page_bytes(medium, spec) is not None:
        return
    if medium == HUGE_PAGES:
        yield where, f"{medium!r} needs a pod that requests pages of exactly one size, else write HugePages-SIZE"
    elif medium.startswith(f"{HUGE_PAGES}-"):
        yield where, f"{medium!r} needs a container that requests hugepages of that size"
    else:
        yield where, f"{medium!r} must be Memory, HugePages or HugePages-SIZE"


def _source(volume: core_v1.Volume, where: Path, containers: Collection[str]) -> Problems:
    if volume.emptyDir is not None and volume.emptyDir.sizeLimit is not None:
        yield from _size_limit(str(volume.emptyDir.sizeLimit), (*where, "emptyDir", "sizeLimit"))
    if volume.hostPath is not None:
        yield from _host_path(volume.hostPath, (*where, "hostPath"))
    if volume.configMap is not None:
        here: Path = (*where, "configMap")
        yield from object_name(volume.configMap.name, (*here, "name"))
        yield from _mode(volume.configMap.defaultMode, (*here, "defaultMode"))
        yield from _items(volume.configMap.items or (), here, [])
    if volume.secret is not None:
        here = (*where, "secret")
        yield from object_name(volume.secret.secretName, (*here, "secretName"))
        yield from _mode(volume.secret.defaultMode, (*here, "defaultMode"))
        yield from _items(volume.secret.items or (), here, [])
    if volume.downwardAPI is not None:
        here = (*where, "downwardAPI")
        yield from _mode(volume.downwardAPI.defaultMode, (*here, "defaultMode"))
        yield from _pod_items(volume.downwardAPI.items or (), here, containers, [])
    if volume.image is not None:
        if not volume.image.reference:
            yield (*where, "image", "reference"), "required field is missing"
        if volume.image.pullPolicy not in PULL_POLICIES:
            policies = ", ".join(PULL_POLICIES)
            yield (*where, "image", "pullPolicy"), f"{volume.image.pullPolicy!r} must be one of {policies}"
    if volume.nfs is not None:
        yield from _nfs(volume.nfs, (*where, "nfs"))
    if volume.projected is not None:
        yield from _projected(volume.projected, (*where, "projected"), containers)


def _size_limit(text: str, where: Path) -> Problems:
    try:
        if parse_quantity(text).value < 0:
            yield where, "must not be negative"
    except ValueError as error:
        yield where, str(error)


def _host_path(source: core_v1.HostPathVolumeSource, where: Path) -> Problems:
    if not source.path:
        yield (*where, "path"), "required field is missing"
    elif not source.path.startswith("/"):
        yield (*where, "path"), f"{source.path!r} must be an absolute path"
    elif ".." in source.path.split("/"):
        yield (*where, "path"), f"{source.path!r} must not contain '..'"
    if (source.type or "") not in HOST_PATH_TYPES:
        yield (*where, "type"), f"{source.type!r} must be one of {', '.join(one for one in HOST_PATH_TYPES if one)}"


def _nfs(source: core_v1.NFSVolumeSource, where: Path) -> Problems:
    if not source.server:
        yield (*where, "server"), "required field is missing"
    if not source.path:
        yield (*where, "path"), "required field is missing"
    elif not source.path.startswith("/"):
        yield (*where, "path"), f"{source.path!r} must be an absolute path"


def _projected(source: core_v1.ProjectedVolumeSource, where: Path, containers: Collection[str]) -> Problems:
    yield from _mode(source.defaultMode, (*where, "defaultMode"))
    taken: list[str] = []
    for index, part in enumerate(source.sources or ()):
        here: Path = (*where, "sources", index)
        chosen = [name for name in PROJECTIONS if getattr(part, name) is not None]
        if len(chosen) != 1:
            yield here, f"must have exactly one of {', '.join(PROJECTIONS)}, has {' and '.join(chosen) or 'none'}"
        if part.configMap is not None:
            yield from object_name(part.configMap.name, (*here, "configMap", "name"))
            yield from _items(part.configMap.items or (), (*here, "configMap"), taken)
        if part.secret is not None:
            yield from object_name(part.secret.name, (*here, "secret", "name"))
            yield from _items(part.secret.items or (), (*here, "secret"), taken)
        if part.downwardAPI is not None:
            yield from _pod_items(part.downwardAPI.items or (), (*here, "downwardAPI"), containers, taken)


def _items(items: Sequence[core_v1.KeyToPath], where: Path, taken: list[str]) -> Problems:
    for index, item in enumerate(items):
        here: Path = (*where, "items", index)
        if problem := is_config_key(item.key):
            yield (*here, "key"), problem
        yield from _path(item.path, (*here, "path"), taken)
        yield from _mode(item.mode, (*here, "mode"))


def _pod_items(
    items: Sequence[core_v1.DownwardAPIVolumeFile], where: Path, containers: Collection[str], taken: list[str]
) -> Problems:
    for index, item in enumerate(items):
        here: Path = (*where, "items", index)
        yield from _path(item.path, (*here, "path"), taken)
        yield from _mode(item.mode, (*here, "mode"))
        if (item.fieldRef is None) == (item.resourceFieldRef is None):
            yield here, "must have exactly one of fieldRef and resourceFieldRef"
        if item.fieldRef is not None:
            yield from _field_path(item.fieldRef, (*here, "fieldRef"))
        if item.resourceFieldRef is not None:
            if not item.resourceFieldRef.containerName:
                yield (*here, "resourceFieldRef", "containerName"), "required field is missing"
            yield from resource_reference(item.resourceFieldRef, (*here, "resourceFieldRef"), containers)


def _field_path(reference: core_v1.ObjectFieldSelector, where: Path) -> Problems:
    if reference.apiVersion not in (None, "v1"):
        yield (*where, "apiVersion"), f"{reference.apiVersion!r} must be v1"
    name, bracket, key = reference.fieldPath.partition("['")
    if bracket and name in ("metadata.labels", "metadata.annotations") and key.endswith("']"):
        key = key.removesuffix("']")
        if problem := is_qualified_name(key.lower() if name == "metadata.annotations" else key):
            yield (*where, "fieldPath"), f"key {problem}"
    elif reference.fieldPath not in FIELD_PATHS:
        yield (*where, "fieldPath"), f"{reference.fieldPath!r} is not a field that a file can be made of"


def _path(path: str, where: Path, taken: list[str]) -> Problems:
    """A path inside of the volume, and no other file's or directory's of it."""
    parts = path.split("/")
    if not path:
        yield where, "required field is missing"
    elif path.startswith("/"):
        yield where, f"{path!r} must be a relative path"
    elif ".." in parts:
        yield where, f"{path!r} must not contain '..'"
    elif parts[0].startswith(".."):
        yield where, f"{path!r} must not begin with '..'"
    elif not all(parts) or "." in parts:
        yield where, f"{path!r} must be written without empty parts and '.'"
    elif len(path) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts):
        yield where, f"must have at most {MAX_PATH} characters, and {MAX_NAME} bytes in each part"
    elif any(f"{path}/".startswith(f"{one}/") or f"{one}/".startswith(f"{path}/") for one in taken):
        yield where, f"conflicting duplicate paths: {path!r}"
    taken.append(path)


def _mode(mode: int | None, where: Path) -> Problems:
    if mode is not None and not 0 <= mode <= MAX_MODE:
        yield where, f"must be between 0 and 0777 octal, not {mode:o} octal"
