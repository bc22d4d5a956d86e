"""What the agent says about itself and its pods, kept as finished JSON: written by the pods' workers, read by the API.

Before: pods/status builds an entry for each pod.  Next: local_api.py sends it.  No I/O: writers never wait, readers are
woken and then read the newest state, so a slow reader costs the writers nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence

import msgspec


class StatusBoard:
    """The current picture. `version` grows with each change of pods or errors.

    It is `complete` when every pod that `expect` named has spoken: until then watchers hear nothing, because a picture
    that lacks pods that run would take them out of their Services. `on_pod` hears of each pod's new entry, None when it
    is gone, and must not block.
    """

    def __init__(self) -> None:
        self._pods: dict[str, bytes] = {}
        self._errors = b"[]"
        self._status: dict[str, object] = {}
        self._document: bytes | None = None
        self._changed = asyncio.Event()
        self._silent: set[str] | None = None
        self.version = 0
        self.on_pod: Callable[[str, bytes | None], None] = lambda _uid, _entry: None

    @property
    def complete(self) -> bool:
        """Whether the picture is whole."""
        return self._silent is not None and not self._silent

    def expect(self, uids: Iterable[str]) -> None:
        """Name, once, all pods of the first picture."""
        self._silent = set(uids) - self._pods.keys()
        self._change()

    def put_pod(self, uid: str, entry: Mapping[str, object]) -> None:
        """Set the entry of a pod: JSON-able with keys `pod`, `source` and `waiting`. An equal one is no change."""
        encoded = msgspec.json.encode(entry)
        if self._pods.get(uid) != encoded:
            self._pods[uid] = encoded
            self._spoke(uid)
            self._change()
            self.on_pod(uid, encoded)

    def remove_pod(self, uid: str) -> None:
        """Drop a pod that is gone."""
        self._spoke(uid)
        if self._pods.pop(uid, None) is not None:
            self._change()
        self.on_pod(uid, None)

    def entries(self) -> tuple[tuple[str, bytes], ...]:
        """Each pod's entry by its UID."""
        return tuple(self._pods.items())

    def set_errors(self, errors: Sequence[Mapping[str, object]]) -> None:
        """Replace the errors of the manifests."""
        encoded = msgspec.json.encode(list(errors))
        if encoded != self._errors:
            self._errors = encoded
            self._change()

    def set_status(self, status: Mapping[str, object]) -> None:
        """Replace what `GET /v1/status` answers; `podCount` is added from the pods."""
        self._status = dict(status)

    def pods_json(self) -> bytes:
        """`{"pods": [...], "errors": [...], "complete": bool}` without a newline, encoded once for each version."""
        if self._document is None:
            pods, complete = b",".join(self._pods.values()), msgspec.json.encode(self.complete)
            self._document = b'{"pods":[' + pods + b'],"errors":' + self._errors + b',"complete":' + complete + b"}"
        return self._document

    def status_json(self) -> bytes:
        """What `GET /v1/status` answers."""
        return msgspec.json.encode({**self._status, "podCount": len(self._pods)})

    async def subscribe(self) -> AsyncGenerator[bytes, None]:
        """The pods once they are complete, and after every change; changes while the reader is busy become one."""
        seen = -1
        while True:
            changed = self._changed
            if self.complete and self.version != seen:
                seen = self.version
                yield self.pods_json()
            else:
                await changed.wait()

    def _spoke(self, uid: str) -> None:
        if self._silent:
            self._silent.discard(uid)
            # The last one makes the picture whole, which is a change even where the pod itself is none.
            if not self._silent:
                self._change()

    def _change(self) -> None:
        self.version += 1
        self._document = None
        self._changed.set()
        self._changed = asyncio.Event()
