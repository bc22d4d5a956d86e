"""ConfigMaps and Secrets as a node uses them: names and bytes, and a picture of all that are known.

Before: whoever reads the objects. Next: variables, volumes and pull credentials of pods. Pure. The bytes are kept out
of every `repr`: a Secret that is printed by accident prints its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

CONFIG_MAP = "configmap"
SECRET = "secret"  # noqa: S105 - the resource's name

RUNTIME_CLASS = "runtimeclass"

ObjectKey: TypeAlias = tuple[str, str, str]
"""Resource (`configmap`, `secret` or `runtimeclass`), namespace ("" for a class), name."""


@dataclass(frozen=True)
class ConfigData:
    """One ConfigMap or Secret.

    `data` is what variables and volumes are made of, `binary` (ConfigMap.binaryData) only volumes. `type` is that of a
    Secret, "" for a ConfigMap. `uid` is what its manifest says, mostly nothing.
    """

    resource: str
    namespace: str
    name: str
    data: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    binary: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    type: str = ""
    immutable: bool = False
    uid: str = ""

    @property
    def key(self) -> ObjectKey:
        """What pods refer to it by."""
        return self.resource, self.namespace, self.name

    @property
    def kind(self) -> str:
        """The word of the API."""
        return {CONFIG_MAP: "ConfigMap", RUNTIME_CLASS: "RuntimeClass"}.get(self.resource, "Secret")


class ObjectMissing(LookupError):  # noqa: N818 - an answer, not a fault
    """There is no such object, or no such key in it; the text is the kubelet's."""


class ObjectPending(LookupError):  # noqa: N818 - an answer, not a fault
    """Nobody knows yet whether there is such an object."""


class ConfigObjects:
    """All ConfigMaps and Secrets at one moment; of those in `pending` it is not known yet what they are."""

    def __init__(self, objects: Iterable[ConfigData] = (), pending: Iterable[ObjectKey] = ()) -> None:
        self._by_key = {one.key: one for one in objects}
        self.pending = frozenset(pending)

    def find(self, resource: str, namespace: str, name: str) -> ConfigData | None:
        """The object, None when there is none. Raises ObjectPending."""
        if (resource, namespace, name) in self.pending:
            raise ObjectPending(f'{resource} "{name}" has not come from the API server yet')
        return self._by_key.get((resource, namespace, name))

    def get(self, resource: str, namespace: str, name: str) -> ConfigData:
        """The object. Raises ObjectMissing and ObjectPending."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise ObjectMissing(f'{resource} "{name}" not found')
        return found

    def differing(self, other: ConfigObjects) -> frozenset[ObjectKey]:
        """What is not the same in both pictures."""
        keys = self._by_key.keys() | other._by_key.keys()
        changed = {key for key in keys if self._by_key.get(key) != other._by_key.get(key)}
        return frozenset(changed | (self.pending ^ other.pending))
