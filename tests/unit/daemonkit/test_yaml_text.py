from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemonkit.yaml_text import MAX_BYTES, Document, TextError, parse_documents, resolve_plain


def value_of(text: str | bytes) -> object:
    (document,) = parse_documents(text.encode() if isinstance(text, str) else text)
    return document.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True), ("On", True), ("y", True), ("N", False), ("off", False), ("true", True), ("tRue", "tRue"),
        ("~", None), ("null", None), ("NULL", None), ("nUll", "nUll"),
        ("0644", 420), ("0o17", 15), ("0x1F", 31), ("0b101", 5), ("-0x10", -16), ("1_000", 1000), ("+7", 7),
        ("089", 89), ("80.0", 80), ("1e3", 1000), ("1.5", 1.5), (".5", 0.5), ("1.", 1), ("1e21", 1e21),
        ("12:30:45", "12:30:45"), ("2026-01-31", "2026-01-31"), ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("1.2.3", "1.2.3"), ("10Mi", "10Mi"), ("-", "-"), ("0x", "0x"), ("18446744073709551615", 18446744073709551615),
        ("00", 0), ("-0644", -420), ("0", 0),
    ],
)  # fmt: skip
def test_plain_scalars_are_read_as_upstream_reads_them(text: str, value: object) -> None:
    found = resolve_plain(text)
    assert found == value
    assert type(found) is type(value)


def test_quotes_and_tags_decide() -> None:
    assert value_of("[\"1\", '1', !!str 1, !!int 1, !!float 1, ! 1]") == ["1", "1", "1", 1, 1.0, "1"]


def test_every_value_has_its_line() -> None:
    (document,) = parse_documents(b"a: 1\nb:\n- x\n- w: {z: 2}\n")
    assert document.lines[()] == 1
    assert document.lines[("b",)] == 2
    assert document.lines[("b", 0)] == 3
    assert document.lines[("b", 1, "w", "z")] == 4
    assert document.line_of(("b", 1, "missing", "deeper")) == 4
    assert document.line_of(("nowhere",)) == 1


def test_empty_documents_do_not_count() -> None:
    assert parse_documents(b"") == ()
    assert parse_documents(b"# only a comment\n---\n# and another\n") == ()
    assert [one.value for one in parse_documents(b"---\n# c\n---\na: 1\n---\nb: 2\n")] == [{"a": 1}, {"b": 2}]


def test_anchors_aliases_and_merge_keys() -> None:
    assert value_of("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\n") == {
        "a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"p": 1, "q": 3},
    }  # fmt: skip
    assert value_of("- &x {p: 1}\n- &y {p: 2, q: 2}\n- {<<: [*x, *y]}\n")[2] == {"p": 1, "q": 2}  # type: ignore[index] # a list by the text above


def test_keys_become_strings() -> None:
    assert value_of("1: a\ntrue: b\n1.5: c\n") == {"1": "a", "true": "b", "1.5": "c"}
    assert value_of("{y: 1, n: 2}") == {"true": 1, "false": 2}, "as goyaml.v2 has it"


def test_a_number_of_thousands_of_digits_is_bad_text() -> None:
    with pytest.raises(TextError):
        parse_documents(b'{"a": "\\ud83d\\ude00", "b": ' + b"9" * 5000 + b"}")


def test_json_is_read_too() -> None:
    assert value_of('{"a": [1, true, null, "x\\/y"]}') == {"a": [1, True, None, "x/y"]}
    assert value_of('{\n\t"tabs": {\n\t\t"deep": 1\n\t}\n}') == {"tabs": {"deep": 1}}
    assert value_of('{"smile": "\\ud83d\\ude00"}') == {"smile": "\U0001f600"}


def test_byte_order_mark_is_skipped() -> None:
    assert value_of(b"\xef\xbb\xbfa: 1") == {"a": 1}


LAUGHS = "a0: &a0 [1,2,3,4,5,6,7,8,9,0]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"a: 1\nb: [\n", 3, "not valid YAML"),
        (b"a: 1\n\tb: 2", 2, "not valid YAML"),
        (b"a: 1\na: 2", 2, "key 'a' appears twice (first in line 1)"),
        (b'{"a": 1, "a": 2}', 1, "appears twice"),
        (b'{"a": "\\ud83d\\ude00", "b": 1, "b": 2}', None, "key 'b' appears twice"),
        (b"a: 1\nb: \x00\x01", 2, "not a text file"),
        (b"a: 1\nb: \xff\xfe", 2, "not UTF-8"),
        (bytes(range(256)), 2, "not UTF-8"),
        (b"x" * (MAX_BYTES + 1), None, "larger than 1048576 bytes"),
        (b"a: *gone", 1, "alias *gone has no anchor"),
        (b"a: &a [*a]", 1, "alias *a has no anchor"),
        (LAUGHS.encode(), 5, "more than 100000 values"),
        (b"[" * 5000, 1, "nested deeper"),
        (b"[" + b"1," * 200_000 + b"1]", 1, "more than 100000 values"),
        (b"a: !!python/object:os.system x", 1, "tag !!python/object:os.system is not supported"),
        (b"a: !!binary aGk=", 1, "tag !!binary is not supported"),
        (b"a: !!int x", 1, "cannot read 'x' as !!int"),
        (b"a: 1\nb: .inf", 2, "no JSON form"),
        (b"a: 1e999", 1, "out of range"),
        (b"? [1]\n: 2", 1, "a key must be a string"),
        (b"~: 2", 1, "a key must be a string"),
        (b"a: {<<: 1}", 1, "needs a mapping"),
    ],
)
def test_bad_text_is_refused_with_its_line(data: bytes, line: int | None, words: str) -> None:
    with pytest.raises(TextError, match=re.escape(words)) as caught:
        parse_documents(data)
    assert caught.value.line == line


@given(st.binary(max_size=300))
def test_any_bytes_give_documents_or_a_text_error(data: bytes) -> None:
    try:
        documents = parse_documents(data)
    except TextError:
        return
    assert all(document.value is not None for document in documents)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc\u00e9 ", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=5), JSON, max_size=4))
def test_whatever_json_writes_is_read_back(value: dict[str, object]) -> None:
    assert value_of(json.dumps(value)) == value


def test_json_is_read_as_the_yaml_that_it_is_and_has_its_lines() -> None:
    text = '{"a": {"b": [1, 2.0, 1e3, 0.5, "x", null, true]},\n "c": {"d": 7}}'
    (quick,) = parse_documents(text.encode())
    (slow,) = parse_documents(b"# a comment, so this is YAML\n" + text.encode())
    assert quick == Document(slow.value, {path: line - 1 for path, line in slow.lines.items()})
    assert quick.line_of(("c", "d", "nothing there")) == 2
    (unknown,) = parse_documents(b'{"a": {"\\ud800\\udc00": 1}}')
    assert (unknown.value, unknown.line_of(("a",))) == ({"a": {"\U00010000": 1}}, 1)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": 1e999}', '{"a": ' + "9" * 80 + "}", "{} {}"])
def test_json_that_nobody_may_use_is_refused_as_yaml_is(text: str) -> None:
    with pytest.raises(TextError):
        parse_documents(text.encode())


@pytest.mark.parametrize("depth", [150, 700, 900, 5000])
def test_json_nested_too_deeply_is_refused(depth: int) -> None:
    with pytest.raises(TextError, match="nested"):
        parse_documents(b'{"a": ' + b"[" * depth + b"]" * depth + b"}")
    with pytest.raises(TextError, match="nested"):  # what YAML 1.1 cannot read is no way around the bound
        parse_documents(b'{"a": "\\ud83d\\ude00", "b": ' + b"[" * depth + b"]" * depth + b"}")
