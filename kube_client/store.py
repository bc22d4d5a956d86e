"""The objects of one kind as the API server has them, each read once.  Pure.

Before: `kube_client.follow` is its one writer.  Next: a daemon reads `objects` and `problems`.
An object that cannot be read keeps its last good version, is named, and disturbs no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from kube_client.list_watch import Change, Removed, Replaced
from kube_client.messages import Item, Key

T = TypeVar("T")


class Store(Generic[T]):
    """What `read` makes of each object, by (namespace, name).

    `read` returns None for what is to be left out, and raises ValueError for what cannot be used.
    """

    def __init__(self, read: Callable[[Item], T | None]) -> None:
        self._read = read
        self._seen: dict[Key, tuple[str, str]] = {}
        """(uid, resourceVersion)."""
        self.objects: dict[Key, T] = {}
        self.problems: dict[Key, str] = {}
        """Why an object's newest version is not in `objects`."""
        self.listed = False
        """It holds a whole list: only then is what is not in it known to be absent."""
        self._changed: dict[Key, None] = {}

    def take_changed(self) -> tuple[Key, ...]:
        """Keys of which `objects` or `problems` may say something else than at the last call, in order."""
        changed, self._changed = tuple(self._changed), {}
        return changed

    def apply(self, change: Change) -> Iterator[None]:
        """Take a change in; yields between objects, so that the caller can let others work while a list is read."""
        if isinstance(change, Replaced):
            present = {item.key for item in change.items}
            for key in self._seen.keys() - present:
                self._forget(key)
            for item in change.items:
                self._put(item)
                yield
            self.listed = True
        elif isinstance(change, Removed):
            self._forget(change.item.key)
        else:
            self._put(change.item)

    def _put(self, item: Item) -> None:
        key, version = item.key, (item.uid, item.resource_version)
        before = self._seen.get(key)
        if before == version:
            return
        if before is not None and before[0] != item.uid:
            self._forget(key)  # another object of the same name: nothing of the old one is good for it
        self._seen[key] = version
        self._changed[key] = None
        self.problems.pop(key, None)
        try:
            found = self._read(item)
        except (ValueError, RecursionError) as error:
            self.problems[key] = str(error)
            return
        if found is None:
            self.objects.pop(key, None)
        elif self.objects.get(key) != found:
            # What is still equal keeps its identity, which spares readers work.
            self.objects[key] = found

    def _forget(self, key: Key) -> None:
        self._changed[key] = None
        self._seen.pop(key, None)
        self.objects.pop(key, None)
        self.problems.pop(key, None)
