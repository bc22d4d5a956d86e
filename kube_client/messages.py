"""What an API server writes, taken apart: pages of a list, lines of a watch, Status objects, single objects.  Pure.

Before: bytes from `kube_client.client`.  Next: `kube_client.list_watch` and `kube_client.store`.
Every object of a list is kept as its own bytes, so that one that cannot be read does not spoil the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from kube_client.errors import MalformedError

T = TypeVar("T")
_BROKEN = (ValueError, RecursionError)  # what msgspec raises is one, and so is a UnicodeDecodeError
Key = tuple[str, str]
"""(namespace, name); namespace is "" for what has none."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object as it came."""

    key: Key
    uid: str
    resource_version: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    items: tuple[Item, ...]
    nameless: int
    """Objects without a name, which nobody can use."""
    resource_version: str
    next_page: str
    """metadata.continue; "" on the last page."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a watch."""

    kind: str
    """ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""
    item: Item | None
    """None for ERROR, and for an object without a name that is no BOOKMARK."""
    resource_version: str = ""
    status: int = 0
    """Of an ERROR: HTTP status."""
    reason: str = ""
    message: str = ""


class _Meta(msgspec.Struct, frozen=True):
    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = msgspec.field(name="resourceVersion", default=None)
    next_page: str | None = msgspec.field(name="continue", default=None)


class _Object(msgspec.Struct, frozen=True):
    metadata: _Meta | None = None


class _List(msgspec.Struct, frozen=True):
    kind: str | None = None
    metadata: _Meta | None = None
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class Status(msgspec.Struct, frozen=True):
    """meta/v1 Status, as far as anybody needs it."""

    kind: str | None = None
    message: str | None = None
    reason: str | None = None
    code: int | None = None


_LISTS = msgspec.json.Decoder(_List)
_OBJECTS = msgspec.json.Decoder(_Object)
_EVENTS = msgspec.json.Decoder(_Event)
_STATUSES = msgspec.json.Decoder(Status)


def read_page(data: bytes) -> Page:
    """A page of a list.  Raises MalformedError; objects in it that are no objects are counted as nameless."""
    try:
        found = _LISTS.decode(data)
    except _BROKEN as error:
        raise MalformedError(f"cannot read the list: {error}") from None
    if not (found.kind or "").endswith("List") or found.metadata is None:
        raise MalformedError(f"cannot read the list: it is a {found.kind or 'nameless thing'}")
    items = [_item(raw) for raw in found.items or ()]
    named = tuple(item for item in items if item is not None)
    meta = found.metadata
    return Page(named, len(items) - len(named), meta.resource_version or "", meta.next_page or "")


def read_line(data: bytes) -> Line:
    """A line of a watch.  Raises MalformedError."""
    try:
        event = _EVENTS.decode(data)
        if event.type == "ERROR":
            status = _STATUSES.decode(event.object)
            return Line("ERROR", None, "", status.code or 0, status.reason or "", status.message or "")
        if event.type == "BOOKMARK":
            meta = _OBJECTS.decode(event.object).metadata
            return Line("BOOKMARK", None, (meta.resource_version if meta else "") or "")
    except _BROKEN as error:
        raise MalformedError(f"cannot read the watch: {error}") from None
    if event.type not in ("ADDED", "MODIFIED", "DELETED"):
        raise MalformedError(f"cannot read the watch: an event of type {event.type!r}")
    item = _item(event.object)
    return Line(event.type, item, item.resource_version if item is not None else "")


def read_status(data: bytes) -> Status:
    """The Status in the body of an error; an empty one where there is none."""
    try:
        return _STATUSES.decode(data)
    except _BROKEN:
        return Status()


def decode_object(raw: bytes, kind: type[T]) -> T:
    """The object as a `kind`, a msgspec Struct or a model of lightkube.  Unknown fields are left out.

    As in the API's own decoder `null` is the same as absent.  Raises ValueError that names the field.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        return msgspec.convert(_without_nulls(msgspec.json.decode(raw)), kind)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _item(raw: msgspec.Raw) -> Item | None:
    try:
        meta = _OBJECTS.decode(raw).metadata
    except _BROKEN:
        return None
    if meta is None or not meta.name:
        return None
    return Item((meta.namespace or "", meta.name), meta.uid or "", meta.resource_version or "", bytes(raw))
