"""A parsed document to typed objects, refusing what nobody would have understood.

Before it: `daemonkit.yaml_text`. After it: defaulting and validation of each kind of object. Pure.

Types are checked by msgspec; it drops unknown fields silently, so those are found by a walk of our own, which also
reads what the API models leave untyped: plain `dict` fields are maps of strings (or of quantities), and a quantity may
be written as a number. As upstream's JSON decoder does, `null` for a field means that the field is absent.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from daemonkit.yaml_text import Document, Path

T = TypeVar("T")

# Fields that the API models type as a bare `dict` and whose values are quantities; all other bare dicts hold strings.
_QUANTITY_MAPS = frozenset(
    {
        "allocatable", "allocatedResources", "capacity", "default", "defaultRequest", "hard", "limits", "max",
        "maxLimitRequestRatio", "min", "overhead", "requests", "used",
    }
)  # fmt: skip
_WORDS = {
    "int": "an integer", "str": "a string", "bool": "true or false", "array": "a list", "object": "a mapping",
    "float": "a number", "null": "null", "datetime": "a time such as 2026-01-31T12:00:00Z",
}  # fmt: skip
_KINDS = (
    (bool, "a boolean"), (int, "an integer"), (float, "a number"), (str, "a string"), (list, "a list"),
    (dict, "a mapping"), (type(None), "null"),
)  # fmt: skip
_STEP = re.compile(r"\.([A-Za-z0-9_$-]+)|\[(\d+)\]|(\[\.\.\.\])")


class FieldError(ValueError):
    """A field cannot be used: `field` ("spec.containers[0].image", "" for the whole document), `line`, `message`."""

    def __init__(self, field: str, message: str, line: int | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message
        self.line = line


def decode(document: Document, kind: type[T]) -> T:
    """The document as a `kind` (a dataclass or msgspec Struct, API models included). Raises FieldError.

    Reported first: the unknown or mistyped field that stands first in the text; then missing ones.
    """
    value = _walk(document, document.value, kind, (), "")
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _type_error(str(error), document, value) from None


def suggest(name: str, known: Iterable[str]) -> str:
    """Text that follows an unknown name: ", did you mean 'image'?", or nothing when no known name is near."""
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return f", did you mean {by_lower[near[0]]!r}?" if near else ""


def field_path(path: Path) -> str:
    """The path as Kubernetes writes it: ("spec", "containers", 0, "image") is spec.containers[0].image."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_$-]+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{step}]"
    return text


@dataclasses.dataclass(frozen=True)
class _Member:
    kind: Any
    annotation: str


@cache
def _members(kind: type[Any]) -> Mapping[str, _Member]:
    """Fields of a struct by the name they have in text."""
    hints = typing.get_type_hints(kind)
    raw: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        raw |= getattr(base, "__annotations__", {})
    names = (
        {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
        if issubclass(kind, msgspec.Struct)
        else {field.name: field.name for field in dataclasses.fields(kind) if field.init}
    )
    return {text: _Member(hints[name], str(raw.get(name, ""))) for name, text in names.items()}


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(kind)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(one for arg in typing.get_args(kind) for one in _alternatives(arg))
    return (kind,)


@dataclasses.dataclass(frozen=True, slots=True)
class _Shape:
    """What a type says about the values that it takes."""

    struct: type | None
    is_untyped_map: bool
    map_item: Any
    list_item: Any
    is_time: bool


@cache
def _shape(kind: Any) -> _Shape:
    kinds = _alternatives(kind)
    origins = [(one, typing.get_origin(one)) for one in kinds]
    maps = [one for one, origin in origins if isinstance(origin, type) and issubclass(origin, Mapping)]
    lists = [one for one, origin in origins if origin in (list, tuple)]
    return _Shape(
        struct=next((one for one in kinds if _is_struct(one)), None),
        is_untyped_map=dict in kinds,
        map_item=typing.get_args(maps[0])[1] if maps else Any,
        list_item=typing.get_args(lists[0])[0] if lists else Any,
        is_time=datetime.datetime in kinds,
    )


def _walk(document: Document, value: object, kind: Any, path: Path, annotation: str) -> object:
    """The value with unknown fields refused, nulls of fields dropped, numbers of quantities turned into strings."""
    shape = _shape(kind)
    if isinstance(value, dict):
        if shape.struct is not None:
            return _walk_struct(document, value, shape.struct, path)
        if shape.is_untyped_map:
            return _walk_untyped_map(document, value, path)
        return {key: _walk(document, item, shape.map_item, (*path, key), annotation) for key, item in value.items()}
    if isinstance(value, list):
        item_kind = shape.list_item
        return [_walk(document, item, item_kind, (*path, index), annotation) for index, item in enumerate(value)]
    if "Quantity" in annotation and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if shape.is_time and isinstance(value, str):
        _check_time(document, value, path)
    return value


def _walk_struct(document: Document, value: dict[str, object], kind: type, path: Path) -> dict[str, object]:
    members = _members(kind)
    walked: dict[str, object] = {}
    for name, item in value.items():
        member = members.get(name)
        if member is None:
            at = (*path, name)
            raise FieldError(field_path(at), f"unknown field{suggest(name, members)}", document.line_of(at))
        if item is not None:
            walked[name] = _walk(document, item, member.kind, (*path, name), member.annotation)
    return walked


def _walk_untyped_map(document: Document, value: dict[str, object], path: Path) -> dict[str, object]:
    quantities = bool(path) and path[-1] in _QUANTITY_MAPS
    walked: dict[str, object] = {}
    for key, item in value.items():
        if isinstance(item, str) or (quantities and isinstance(item, (int, float)) and not isinstance(item, bool)):
            walked[key] = str(item)
        elif item is None:
            walked[key] = "0" if quantities else ""
        elif path and path[-1] == "fieldsV1":
            walked[key] = item
        else:
            at = (*path, key)
            wanted = "a quantity such as 100m or 64Mi" if quantities else "a string (write it in quotes)"
            raise FieldError(field_path(at), f"must be {wanted}, not {_shown(item)}", document.line_of(at))
    return walked


def _check_time(document: Document, value: str, path: Path) -> None:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[-+]\d\d:\d\d)", value):
        raise FieldError(field_path(path), f"must be {_WORDS['datetime']}, not {_shown(value)}", document.line_of(path))


def _type_error(text: str, document: Document, value: object) -> FieldError:
    message, _, where = text.partition(" - at `")
    path = _path_of(where.rstrip("`"))
    line = document.line_of(path)
    if match := re.match(r"Object missing required field `(.+)`", message):
        return FieldError(field_path((*path, match[1])), "required field is missing", line)
    if match := re.match(r"Expected `([^`]+)`, got `([^`]+)`\Z", message):
        names = [_WORDS.get(name.strip(), name.strip()) for name in match[1].split("|") if name.strip() != "null"]
        found, known = _lookup(value, path)
        shown = _shown(found) if known else _WORDS.get(match[2], match[2])
        return FieldError(field_path(path), f"must be {' or '.join(names)}, not {shown}", line)
    return FieldError(field_path(path), message[:1].lower() + message[1:], line)


def _path_of(where: str) -> Path:
    steps: list[str | int] = []
    for match in _STEP.finditer(where):
        if match[3]:
            break
        steps.append(match[1] if match[1] is not None else int(match[2]))
    return tuple(steps)


def _lookup(value: object, path: Path) -> tuple[object, bool]:
    for step in path:
        try:
            value = value[step]  # type: ignore[index] # a wrong container type is caught here
        except (TypeError, KeyError, IndexError):
            return None, False
    return value, True


def _shown(value: object) -> str:
    kind = next(word for one, word in _KINDS if isinstance(value, one))
    if isinstance(value, (list, dict)) or value is None:
        return kind
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text if len(text) <= 40 else text[:37] + "..."
    return (
        f'{kind.replace("a ", "the ").replace("an ", "the ")} "{text}"'
        if isinstance(value, str)
        else f"{kind} ({text})"
    )
