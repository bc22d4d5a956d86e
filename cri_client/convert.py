"""Between `types` and the wire; the only user of the protobuf stubs. Pure.

Before this comes a message of `types`, after it bytes for `channel` (or the other way round; `fake_server` uses
both). One plan per type is made from the dataclass's type hints on first use and kept: a tuple of (field name,
reader, writer). A field of the proto that `types` does not have cannot slip in unseen: a unit test compares both sets
of names.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from cri_client import types as cri
from cri_client.stubs import api_pb2

T = TypeVar("T")
Reader = Callable[[Any], Any]
Writer = Callable[[Any], Any]
Plan = tuple[tuple[str, Reader, Writer | None], ...]

_PLANS: dict[type[Any], Plan] = {}


class ConvertError(ValueError):
    """A value that the wire cannot carry, or bytes that are no such message; names type and field."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of the CRI: its gRPC path and the types of `cri_client.types` on both sides."""

    service: str
    name: str
    path: str
    request: type[Any]
    response: type[Any]
    server_streaming: bool


@cache
def rpcs() -> Mapping[str, Rpc]:
    """Every method of RuntimeService and ImageService by its CRI name."""
    found = {}
    for service in api_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            found[method.name] = Rpc(
                service=service.name,
                name=method.name,
                path=f"/{service.full_name}/{method.name}",
                request=getattr(cri, method.input_type.name),
                response=getattr(cri, method.output_type.name),
                server_streaming=method.server_streaming,
            )
    return found


def to_bytes(value: object) -> bytes:
    """Encode a message of `types`; ConvertError names the field that does not fit."""
    return to_proto(value).SerializeToString()  # type: ignore[no-any-return] # generated stubs have no types


def from_bytes(kind: type[T], data: bytes) -> T:
    """Decode a message of `types`; ConvertError when the bytes are no such message."""
    message = _proto_class(kind)()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ConvertError(f"cannot read {kind.__name__}: {error}") from error
    return from_proto(kind, message)


def to_proto(value: object) -> Any:
    """Build the protobuf message; fields at their zero value are left out, a present empty message is kept."""
    kind = type(value)
    fields: dict[str, Any] = {}
    for name, _, write in _plan(kind):
        content = getattr(value, name)
        if content is not None and (content or dataclasses.is_dataclass(content)):
            try:
                fields[name] = content if write is None else write(content)
            except ConvertError as error:
                raise ConvertError(f"{name}.{error}") from error
    try:
        return _proto_class(kind)(**fields)
    except (TypeError, ValueError) as error:
        raise ConvertError(_blame(kind, fields, error)) from error


def from_proto(kind: type[T], message: Any) -> T:
    """Build the dataclass from the protobuf message; unknown enum numbers are kept as numbers."""
    return kind(*[read(message) for _, read, _ in _plan(kind)])


def _blame(kind: type[Any], fields: Mapping[str, Any], error: Exception) -> str:
    for name, content in fields.items():
        try:
            _proto_class(kind)(**{name: content})
        except (TypeError, ValueError) as cause:
            return f"{name}: cannot encode {content!r:.80}: {cause}"
    return f"cannot encode {kind.__name__}: {error}"


def _proto_class(kind: type[Any]) -> Any:
    return getattr(api_pb2, kind.__name__)


def _plan(kind: type[Any]) -> Plan:
    plan = _PLANS.get(kind)
    if plan is None:
        hints = typing.get_type_hints(kind)
        plan = tuple((field.name, *_field_plan(field.name, hints[field.name])) for field in dataclasses.fields(kind))
        _PLANS[kind] = plan
    return plan


def _field_plan(name: str, hint: Any) -> tuple[Reader, Writer | None]:
    """Reader (from the message that holds the field) and writer (from the field's value; None: as it is)."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _repeated(name, arguments[0])
    if origin is not None and issubclass(origin, Mapping):
        return (lambda message: dict(getattr(message, name))), dict
    if arguments:
        return _optional(name, arguments[0])
    if issubclass(hint, IntEnum):
        members = hint._value2member_map_

        def read_enum(message: Any) -> Any:
            number = getattr(message, name)
            return members.get(number) or hint(number)

        return read_enum, int
    return (lambda message: getattr(message, name)), None


def _repeated(name: str, item: Any) -> tuple[Reader, Writer | None]:
    if dataclasses.is_dataclass(item):
        kind = typing.cast("type[Any]", item)
        return (
            lambda message: tuple([from_proto(kind, part) for part in getattr(message, name)]),
            lambda content: [to_proto(part) for part in content],
        )
    return (lambda message: tuple(getattr(message, name))), list


def _optional(name: str, kind: type[Any]) -> tuple[Reader, Writer | None]:
    return (
        lambda message: from_proto(kind, getattr(message, name)) if message.HasField(name) else None,
        to_proto,
    )
