"""The text of a configuration file and the words of the flags -> checked values, by the table of config_fields.py.

Pure.  Before: config.py has read the file, config_flags.py the command line.  Next: config.py builds AgentConfig from
the values.  Precedence as in the kubelet: a flag beats the file, the file beats the default.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.config_field import ConfigField, Use
from agent.config_fields import FIELDS, GROUP_VERSION, KIND
from daemonkit.duration import parse_duration
from daemonkit.strict import field_path, suggest
from daemonkit.yaml_text import Document, Path, TextError, parse_documents
from kube_objects.manifest import one_line

_INNER = frozenset(name[:end] for name in FIELDS for end in range(len(name)) if name[end] == ".")
_WORDS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "object": dict,
    "gates": dict,
    "list": list,
}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class ConfigError(ValueError):
    """The configuration cannot be used: the daemon prints it and exits with status 78 (EX_CONFIG).

    `where`: the file, or the flag with its dashes.  `field` is "" when the whole file is meant.
    """

    def __init__(self, where: str, message: str, field: str = "", line: int | None = None) -> None:
        super().__init__(where, message, field, line)
        self.where = where
        self.message = message
        self.field = field
        self.line = line

    def __str__(self) -> str:
        """One line: cannot read FILE:LINE: FIELD: MESSAGE."""
        place = self.where if self.line is None else f"{self.where}:{self.line}"
        return one_line(f"cannot read {place}: {self.field + ': ' if self.field else ''}{self.message}")


@dataclass(frozen=True)
class Setting:
    """One value and where it was set: file (and line) or flag; a default has neither."""

    value: object
    where: str = ""
    field: str = ""
    line: int | None = None

    def error(self, message: str) -> ConfigError:
        """This value cannot be used."""
        return ConfigError(self.where or "configuration", message, self.field, self.line)


def parse_config_file(data: bytes, path: str) -> dict[str, Setting]:
    """The fields a file sets, checked.  Raises ConfigError for the first problem."""
    document = _single(data, path)
    value = document.value
    if not isinstance(value, dict):
        raise ConfigError(path, f"is not a {KIND} (a mapping with apiVersion and kind)", line=document.line_of(()))
    for name, wanted in (("apiVersion", GROUP_VERSION), ("kind", KIND)):
        if value.get(name) != wanted:
            message = (
                "required field is missing" if value.get(name) is None else f"must be {wanted}, not {value[name]!r}"
            )
            raise ConfigError(path, message, name, document.line_of((name,) if name in value else ()))
    settings: dict[str, Setting] = {}
    for where, field, item in _leaves({name: value[name] for name in value if name not in ("apiVersion", "kind")}, ()):
        place = field_path(where)
        line = document.line_of(where)
        if field is None and ".".join(str(step) for step in where) in _INNER:
            raise ConfigError(path, f"must be a mapping, not {item!r}", place, line)
        if field is None:
            known = {name.split(".")[len(where) - 1] for name in FIELDS if name.count(".") >= len(where) - 1}
            raise ConfigError(path, f"unknown field{suggest(str(where[-1]), known)}", place, line)
        setting = _file_setting(field, item, Setting(item, path, place, line))
        if setting is not None:
            settings[field.name] = setting
    return settings


def _single(data: bytes, path: str) -> Document:
    try:
        documents = parse_documents(data)
    except TextError as error:
        raise ConfigError(path, error.message, line=error.line) from None
    if len(documents) != 1:
        message = f"holds {len(documents)} documents, exactly one {KIND} is expected" if documents else "file is empty"
        raise ConfigError(path, message, line=documents[1].line_of(()) if documents else None)
    return documents[0]


def _leaves(value: object, path: Path) -> Iterator[tuple[Path, ConfigField | None, object]]:
    name = ".".join(str(step) for step in path)
    if path and name in FIELDS:
        yield path, FIELDS[name], value
    elif isinstance(value, dict) and (not path or name in _INNER):
        for key, item in value.items():
            if item is not None:
                yield from _leaves(item, (*path, key))
    elif path:
        yield path, None, value


def _file_setting(field: ConfigField, item: object, raw: Setting) -> Setting | None:
    """The checked value of a field in a file; None where the file asks for the default."""
    kind = _WORDS.get(field.kind)
    wrong = kind is not None and (not isinstance(item, kind) or (isinstance(item, bool) and field.kind != "bool"))
    if wrong:
        raise raw.error(f"must be {_kind_name(field.kind)}, not {item!r}")
    if field.kind == "strings" and not (isinstance(item, list) and all(isinstance(one, str) for one in item)):
        raise raw.error(f"must be a list of strings, not {item!r}")
    if field.kind == "map" and not (isinstance(item, dict) and all(isinstance(one, str) for one in item.values())):
        raise raw.error(f"must be a mapping of strings, not {item!r}")
    if field.kind == "gates" and isinstance(item, dict):
        for name, value in item.items():
            if not isinstance(value, bool):
                raise raw.error(f"{name} must be true or false, not {value!r}")
    if field.kind == "duration":
        item = _duration(item, raw)
    if isinstance(item, int) and field.kind == "float":
        item = float(item)
    if field.kind == "strings" and isinstance(item, list):
        item = tuple(item)
    return _checked(field, item, raw, in_file=True)


def _checked(field: ConfigField, value: object, raw: Setting, *, in_file: bool) -> Setting | None:
    default = default_of(field)
    zero = not value or (isinstance(value, dict) and not _any_set(value))
    means_default = field.kind in ("map", "strings", "object", "list") or (in_file and field.zero_is_default)
    if value == default:
        return Setting(value, raw.where, raw.field, raw.line)
    if zero and means_default:
        return None
    if field.use is Use.REFUSED:
        raise raw.error(field.note or "not supported yet")
    if field.choices and value not in field.choices:
        choices = ", ".join(choice or '""' for choice in field.choices)
        raise raw.error(f"must be one of {choices}, not {value!r}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_range(field, value, raw)
    return Setting(value, raw.where, raw.field, raw.line)


def _any_set(value: Mapping[str, object]) -> bool:
    return any(_any_set(item) if isinstance(item, dict) else bool(item) for item in value.values())


def _check_range(field: ConfigField, value: float, raw: Setting) -> None:
    unit = " seconds" if field.kind == "duration" else ""
    if field.minimum is not None and value < field.minimum:
        raise raw.error(f"must be at least {field.minimum:g}{unit}, not {value:g}")
    if field.maximum is not None and value > field.maximum:
        raise raw.error(f"must be at most {field.maximum:g}{unit}, not {value:g}")


def _duration(item: object, raw: Setting) -> float:
    if not isinstance(item, str):
        raise raw.error(f'must be a duration such as "30s" or "1m30s", not {item!r}')
    try:
        return parse_duration(item)
    except ValueError as error:
        raise raw.error(str(error)) from None


def parse_flag(field: ConfigField, words: tuple[str, ...]) -> Setting | None:
    """The checked value of a flag given one or more times; None where it asks for the default."""
    raw = Setting(words[-1], f"flag --{field.flag}")
    text = words[-1]
    value: object = text
    if field.kind == "bool":
        value = _truth(text, raw)
    elif field.kind == "gates":
        pairs = (_pair(part, raw) for word in words for part in word.split(",") if part)
        value = {name.strip(): _truth(text.strip(), raw) for name, text in pairs}
    elif field.kind in ("int", "float"):
        value = _number(field, text, raw)
    elif field.kind == "duration":
        value = _duration(text, raw)
    elif field.kind in ("strings", "list"):
        value = tuple(part for word in words for part in word.split(",") if part)
    elif field.kind in ("map", "object"):
        value = dict(_pair(part, raw) for word in words for part in word.split(",") if part)
    return _checked(field, value, raw, in_file=False)


def _truth(text: str, raw: Setting) -> bool:
    if text not in (*_TRUE, *_FALSE):
        raise raw.error(f"must be true or false, not {text!r}")
    return text in _TRUE


def _number(field: ConfigField, text: str, raw: Setting) -> float:
    try:
        return int(text) if field.kind == "int" else float(text)
    except ValueError:
        raise raw.error(f"must be {_kind_name(field.kind)}, not {text!r}") from None


def _pair(text: str, raw: Setting) -> tuple[str, str]:
    for sign in ("=", "<", ":"):
        name, found, value = text.partition(sign)
        if found and name:
            return name, value
    raise raw.error(f"must be NAME=VALUE pairs, not {text!r}")


def _kind_name(kind: str) -> str:
    names = {"string": "a string", "bool": "true or false", "int": "an integer", "float": "a number"}
    return names.get(kind, "a mapping" if kind in ("object", "gates") else "a list")


def nearest_flag(name: str, known: Mapping[str, object]) -> str:
    """Text that follows an unknown flag: ", did you mean '--root-dir'?" or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f", did you mean '--{near[0]}'?" if near else ""


def default_of(field: ConfigField) -> object:
    """The default of a field; a duration in seconds."""
    if field.kind == "duration" and isinstance(field.default, str):
        return parse_duration(field.default)
    return field.default
