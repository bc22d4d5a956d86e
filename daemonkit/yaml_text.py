"""YAML text to plain values with the line of every field: the first station of each manifest and configuration file.

Before it: bytes that somebody read. After it: `daemonkit.strict`, which turns a Document into typed objects. Pure.

Upstream reads its files with sigs.k8s.io/yaml, which resolves plain scalars as goyaml.v2 does and then goes through
JSON. The rules of that line are kept here: YAML 1.1 booleans (`yes`, `on`), octal `0644`, `1e3` is a number, integral
floats become integers, timestamps and base-60 numbers stay strings, numeric keys become strings. Stricter than
upstream on purpose: a duplicate key, an endless alias and a tag of another language are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from daemonkit.json_text import LaterLines, depth, plain_json

Path: TypeAlias = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
MAX_DEPTH = 100

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_NOT_A_NUMBER = re.compile(r"\.(nan|NaN|NAN)\Z|[-+]?\.(inf|Inf|INF)\Z")


class TextError(ValueError):
    """The bytes are not a readable YAML (or JSON) text. `line` counts from 1; None where no line can be told."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True)
class Document:
    """One YAML document: plain dict, list, str, int, float, bool, None; and the line (from 1) of every path in it."""

    value: object
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int | None:
        """The line of a path, or of its nearest known parent."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None


def parse_documents(data: bytes) -> tuple[Document, ...]:
    """All documents of the text that hold anything; empty ones (only comments) are left out. Raises TextError."""
    if len(data) > MAX_BYTES:
        raise TextError(f"file is larger than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(f"not UTF-8 text (byte {error.start})", data[: error.start].count(b"\n") + 1) from None
    value = plain_json(text, _integer, _number)
    if value is not None:
        return (Document(value, LaterLines(lambda: _lines_of(text))),)
    try:
        documents = tuple(_Builder(text).documents())
    except yaml.MarkedYAMLError as error:
        if text.lstrip().startswith("{"):
            return (_json_document(text, _yaml_problem(error)),)
        raise _yaml_problem(error) from None
    except yaml.reader.ReaderError as error:
        line = text[: max(error.position, 0)].count("\n") + 1 if isinstance(error.position, int) else None
        raise TextError(f"not a text file: {error.reason}", line) from None
    return tuple(document for document in documents if document.value is not None)


def _lines_of(text: str) -> Mapping[Path, int]:
    """Where everything in a JSON text is; only its first line where YAML 1.1 cannot read it."""
    try:
        return next(_Builder(text).documents()).lines
    except (yaml.YAMLError, TextError):
        return {(): 1}


def _yaml_problem(error: yaml.MarkedYAMLError) -> TextError:
    mark = error.problem_mark or error.context_mark
    words = [word for word in (error.context, error.problem) if word]
    return TextError("not valid YAML: " + ", ".join(words), mark.line + 1 if mark else None)


def _json_document(text: str, problem: TextError) -> Document:
    """JSON that YAML 1.1 cannot read, such as surrogate pairs in escapes; `problem` is raised when it is no JSON."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise TextError(f"key {next(name for name in names if names.count(name) > 1)!r} appears twice")
        return found

    try:
        value: object = json.loads(text, object_pairs_hook=unique)
        levels = depth(value)  # how deep json.loads itself goes differs from one Python to the next
    except TextError:
        raise
    except RecursionError:
        levels = MAX_DEPTH + 1
    except ValueError:  # also for a number of thousands of digits
        raise problem from None
    if levels > MAX_DEPTH:
        raise TextError(f"nested deeper than {MAX_DEPTH} levels")
    return Document(value, {(): 1})


def resolve_plain(text: str) -> str | int | float | bool | None:
    """The value of a scalar without quotes and without a tag, as goyaml.v2 resolves it; TextError on .inf/.nan."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "0123456789+-.":
        return text
    if _NOT_A_NUMBER.match(text):
        raise TextError(f"{text} has no JSON form")
    plain = text.replace("_", "") if text[0] != "." else text
    if _INT.match(plain):
        return _integer(plain)
    if _FLOAT.match(plain):
        return _number(plain)
    return text


def _integer(plain: str) -> int:
    if len(plain) > 70:
        raise TextError(f"number {plain[:20]}... is out of range")
    digits = plain.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    value = int(digits, 8 if octal else 0)
    return -value if plain[0] == "-" else value


def _number(plain: str) -> int | float:
    value = float(plain)
    if value in (float("inf"), float("-inf")):
        raise TextError(f"number {plain[:20]} is out of range")
    # The way through JSON: Go writes an integral float64 below 1e21 without a fraction, so it reads back as an integer.
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


class _Builder:
    """Builds values from parser events, so that sizes are bounded while reading and no node tree is kept."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._count = 0
        self._lines: dict[Path, int] = {}
        self._anchors: dict[str, tuple[object, int]] = {}

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._lines, self._anchors = {}, {}
                value = self._value(next(self._events), ())
                yield Document(value, self._lines)

    def _value(self, event: yaml.Event, path: Path) -> object:
        line = _line(event)
        self._lines.setdefault(path, line)
        self._spend(1, line)
        if len(path) > MAX_DEPTH:
            raise TextError(f"nested deeper than {MAX_DEPTH} levels", line)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        before = self._count
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            _expect_tag(event.tag, "seq", line)
            value = self._sequence(path)
        else:
            assert isinstance(event, yaml.MappingStartEvent)  # noqa: S101 # the parser gives no other event here
            _expect_tag(event.tag, "map", line)
            value = self._mapping(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._count - before + 1)
        return value

    def _spend(self, count: int, line: int) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise TextError(f"more than {MAX_VALUES} values (aliases are counted each time they are used)", line)

    def _alias(self, event: yaml.AliasEvent, line: int) -> object:
        if event.anchor not in self._anchors:
            raise TextError(f"alias *{event.anchor} has no anchor before it", line)
        value, size = self._anchors[event.anchor]
        self._spend(size, line)
        return value

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: list[dict[str, object]] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            if _is_merge(event):
                merged += _merge_sources(self._value(next(self._events), (*path, "<<")), line)
                continue
            key = self._key(event, line)
            if key in own:
                raise TextError(f"key {key!r} appears twice (first in line {self._lines[(*path, key)]})", line)
            self._lines[(*path, key)] = line
            own[key] = self._value(next(self._events), (*path, key))
        for source in merged:
            own = {**source, **own} if not own.keys() >= source.keys() else own
        return own

    def _key(self, event: yaml.Event, line: int) -> str:
        self._spend(1, line)
        if isinstance(event, yaml.AliasEvent):
            key = self._alias(event, line)
        elif isinstance(event, yaml.ScalarEvent):
            key = _scalar(event, line)
            if event.anchor is not None:
                self._anchors[event.anchor] = (key, 1)
        else:
            raise TextError("a key must be a string", line)
        if isinstance(key, str):
            return key
        if isinstance(key, bool):
            return "true" if key else "false"
        if isinstance(key, (int, float)):
            return str(key)
        raise TextError("a key must be a string", line)


def _is_merge(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0] and not event.style


def _merge_sources(value: object, line: int) -> list[dict[str, object]]:
    candidates = value if isinstance(value, list) else [value]
    sources = [candidate for candidate in candidates if isinstance(candidate, dict)]
    if len(sources) != len(candidates):
        raise TextError("'<<' needs a mapping or a list of mappings", line)
    return sources


def _expect_tag(tag: str | None, wanted: str, line: int) -> None:
    if tag not in (None, "!", _TAG + wanted):
        raise TextError(f"tag {_short(tag)} is not supported", line)


def _short(tag: str | None) -> str:
    return "!!" + tag.removeprefix(_TAG) if tag and tag.startswith(_TAG) else str(tag)


_TAGGED: dict[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "bool": bool, "null": type(None)}


def _scalar(event: yaml.ScalarEvent, line: int) -> str | int | float | bool | None:
    text: str = event.value
    tag = event.tag
    try:
        if tag in (None, "!"):
            return resolve_plain(text) if event.implicit[0] and not event.style and tag is None else text
        if tag == _TAG + "str":
            return text
        wanted = _TAGGED.get(tag.removeprefix(_TAG))
        if wanted is None:
            raise TextError(f"tag {_short(tag)} is not supported")
        value = resolve_plain(text)
    except TextError as error:
        raise TextError(error.message, line) from None
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise TextError(f"cannot read {text!r} as {_short(tag)}", line)
    return value
