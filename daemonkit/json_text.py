"""JSON text to plain values, ten times as quickly as reading it as the YAML that it also is. Pure.

Before it: `daemonkit.yaml_text` met a text that begins like JSON. After it: the values that the YAML parser would give;
where that is not certain there is no value, and the text is read as YAML, which also says what is wrong and where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

Path = tuple[str | int, ...]
_MAX_CHARS = 200_000  # longer ones could hold more values than are allowed
_SURELY_FLAT = 90  # brackets; with more, nesting is looked at
_ODD = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")  # no characters to YAML, or line breaks


def plain_json(
    text: str, integer: Callable[[str], int], number: Callable[[str], int | float]
) -> dict[str, object] | None:
    """The value of a text that is one JSON object; None when YAML might think otherwise of it.

    `integer` and `number` read numbers without and with a fraction or exponent; a ValueError of theirs is None too.
    """
    if not text.startswith("{") or len(text) > _MAX_CHARS or _ODD.search(text):
        return None
    try:
        value: dict[str, object] = json.loads(
            text, object_pairs_hook=_unique, parse_int=integer, parse_float=number, parse_constant=_refuse
        )
        flat = text.count("{") + text.count("[") < _SURELY_FLAT or depth(value) < _SURELY_FLAT
    except (ValueError, RecursionError):
        return None
    return value if flat else None


class LaterLines(Mapping[Path, int]):
    """The line of every path, found when somebody asks: only errors do."""

    def __init__(self, find: Callable[[], Mapping[Path, int]]) -> None:
        self._find = find

    @cached_property
    def _lines(self) -> Mapping[Path, int]:
        return self._find()

    def __getitem__(self, path: Path) -> int:
        """The line, from 1."""
        return self._lines[path]

    def __iter__(self) -> Iterator[Path]:
        """All paths."""
        return iter(self._lines)

    def __len__(self) -> int:
        """How many paths."""
        return len(self._lines)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def depth(value: object) -> int:
    """How deeply lists and mappings are nested; RecursionError where that is too deep to be counted."""
    if not isinstance(value, (dict, list)):
        return 0
    inside = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inside), default=0)
