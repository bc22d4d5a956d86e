"""Typed objects to the JSON that Kubernetes writes, and times in its form.

Used by what leaves the daemons: local APIs, files, hashes of specs. Pure.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec


def to_json(value: object) -> Any:
    """Plain dict, list, str, int, float, bool of an API object (msgspec Struct or dataclass).

    Fields that are None, empty lists and empty maps are left out, unless the type requires the field; an empty struct
    stays, because its presence means something (`emptyDir: {}`). Times become RFC 3339, whole seconds, except in
    MicroTime fields.
    """
    return _plain(value, micro=False)


def rfc3339(time: datetime.datetime) -> str:
    """UTC, whole seconds: 2026-01-31T12:00:00Z (API type meta/v1 Time)."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(time: datetime.datetime) -> str:
    """UTC with microseconds: 2026-01-31T12:00:00.000001Z (API type meta/v1 MicroTime)."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def rfc3339_nano(time_ns: int) -> str:
    """Nanoseconds since 1970 in UTC, with all nine digits, as the kubelet stamps lines of logs."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    whole = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest_ns:09d}Z"


def parse_rfc3339(text: str) -> datetime.datetime:
    """The time of an RFC 3339 text; digits finer than microseconds are cut. Raises ValueError."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]\d\d:\d\d)", text):
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    return datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text.upper()))


@dataclasses.dataclass(frozen=True)
class _Member:
    name: str
    text: str
    required: bool
    micro: bool


@cache
def _members(kind: type[Any]) -> tuple[_Member, ...]:
    raw: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        raw |= getattr(base, "__annotations__", {})
    return tuple(
        _Member(name, text, required, "MicroTime" in str(raw.get(name))) for name, text, required in _fields(kind)
    )


def _fields(kind: type[Any]) -> Iterator[tuple[str, str, bool]]:
    if issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield field.name, field.encode_name, field.required
    else:
        for one in dataclasses.fields(kind):
            required = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
            yield one.name, one.name, required


def _plain(value: object, micro: bool) -> Any:
    if isinstance(value, datetime.datetime):
        return rfc3339_micro(value) if micro else rfc3339(value)
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, micro) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, micro) for item in value]
    if isinstance(value, msgspec.Struct) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return _plain_struct(value)
    raise TypeError(f"cannot encode {type(value).__name__}: no JSON form")


def _plain_struct(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for member in _members(value.__class__):
        item = getattr(value, member.name)
        empty = item is None or (isinstance(item, (list, tuple, Mapping)) and not item)
        if not empty or (member.required and item is not None):
            plain[member.text] = _plain(item, member.micro)
    return plain
