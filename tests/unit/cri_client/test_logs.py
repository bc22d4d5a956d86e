"""The log parser gives the same lines however the bytes arrive, and survives what is no log."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cri_client.log_text import LogText
from cri_client.logs import GarbageLine, LogLine, LogParser, parse_line

NOON_NS = int(datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC).timestamp()) * 10**9


def test_a_line() -> None:
    line = b"2026-11-22T12:00:00.123456789Z stdout F hello  world "
    assert parse_line(line) == LogLine(NOON_NS + 123456789, "stdout", False, b"hello  world ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"2026-11-22T12:00:00Z stderr F x", LogLine(NOON_NS, "stderr", False, b"x")),
        (b"2026-11-22T12:00:00.5Z stderr P x", LogLine(NOON_NS + 500_000_000, "stderr", True, b"x")),
        (b"2026-11-22T14:30:00.000000001+02:30 stdout F x", LogLine(NOON_NS + 1, "stdout", False, b"x")),
        (b"2026-11-22T04:00:00-08:00 stdout F x", LogLine(NOON_NS, "stdout", False, b"x")),
        (b"2026-11-22T12:00:00Z stdout F ", LogLine(NOON_NS, "stdout", False, b"")),
        (b"2026-11-22T12:00:00Z stdout F", LogLine(NOON_NS, "stdout", False, b"")),
        (b"2026-11-22T12:00:00Z stdout P:later:tags x", LogLine(NOON_NS, "stdout", True, b"x")),
        (b"2026-11-22T12:00:00Z stdout F a\rb\xff\x00", LogLine(NOON_NS, "stdout", False, b"a\rb\xff\x00")),
    ],
)
def test_forms_of_a_line(line: bytes, expected: LogLine) -> None:
    assert parse_line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b'{"log":"docker\'s json\\n","stream":"stdout","time":"2026-11-22T12:00:00Z"}',
        b"2026-13-22T12:00:00Z stdout F x",
        b"2026-02-30T12:00:00Z stdout F x",
        b"0000-01-01T12:00:00Z stdout F x",
        b"2026-11-22T24:00:00Z stdout F x",
        b"2026-11-22T12:00:00Z stdin F x",
        b"2026-11-22T12:00:00Z stdout X x",
        b"2026-11-22T12:00:00Z stdout",
        b"2026-11-22 12:00:00Z stdout F x",
        b"\x00" * 50,
    ],
)
def test_garbage_is_reported_and_the_next_line_is_read(line: bytes) -> None:
    parser = LogParser()
    garbage, good = parser.feed(line + b"\n2026-11-22T12:00:00Z stdout F ok\n")
    assert isinstance(garbage, GarbageLine)
    assert garbage.content == line
    assert garbage.why
    assert good == LogLine(NOON_NS, "stdout", False, b"ok")
    assert parser.garbage == 1


def test_partial_lines_are_joined_by_stream() -> None:
    text = (
        b"2026-11-22T12:00:00Z stdout P one \n"
        b"2026-11-22T12:00:01Z stderr P err\n"
        b"2026-11-22T12:00:02Z stdout P two \n"
        b"2026-11-22T12:00:03Z stdout F three\n"
        b"2026-11-22T12:00:04Z stderr F or\n"
    )
    assert LogParser(join_partials=True).feed(text) == [
        LogLine(NOON_NS, "stdout", False, b"one two three"),
        LogLine(NOON_NS + 10**9, "stderr", False, b"error"),
    ]
    assert [line.partial for line in LogParser().feed(text) if isinstance(line, LogLine)] == [True] * 3 + [False] * 2


def test_what_is_left_at_the_end_is_not_lost() -> None:
    parser = LogParser(join_partials=True)
    assert parser.feed(b"2026-11-22T12:00:00Z stdout P one \n2026-11-22T12:00:01Z stdout P tw") == []
    assert parser.close() == [LogLine(NOON_NS, "stdout", True, b"one tw")]
    assert parser.close() == []


def test_memory_is_bounded() -> None:
    parser = LogParser(join_partials=True, limit_bytes=100)
    assert sum(len(line.content) for line in parser.feed(b"x" * 1000)) == 900
    pieces = [b"2026-11-22T12:00:00Z stdout P 0123456789\n" for _ in range(25)]
    parser = LogParser(join_partials=True, limit_bytes=100)
    assert [len(line.content) for line in parser.feed(b"".join(pieces))] == [100, 100]


entries = st.builds(
    lambda stream, tag, content: b"2026-11-22T12:00:00.000000007Z " + stream + b" " + tag + b" " + content,
    st.sampled_from([b"stdout", b"stderr"]),
    st.sampled_from([b"F", b"P"]),
    st.binary(max_size=12).map(lambda content: content.replace(b"\n", b"")),
)
files = st.lists(entries | st.binary(max_size=60), max_size=12).map(b"\n".join)


@settings(max_examples=150, deadline=None, database=None)
@given(files, st.lists(st.integers(0, 400), max_size=20), st.booleans())
def test_any_chunking_gives_the_same_lines(data: bytes, cuts: list[int], join: bool) -> None:
    whole = LogParser(join_partials=join, limit_bytes=50)
    expected = [*whole.feed(data), *whole.close()]
    parser = LogParser(join_partials=join, limit_bytes=50)
    found = []
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in itertools.pairwise(places):
        found += parser.feed(data[start:end])
    assert [*found, *parser.close()] == expected
    assert parser.garbage == whole.garbage


@pytest.mark.parametrize("piece", [1, 7, 50, 1 << 20])
@pytest.mark.parametrize("entries", [
    [b"2026-11-30T23:59:60.1Z stdout F a", b"2026-11-30T00:00:00Z stderr F:x b", b"2024-02-28T00:00:00+01:00 stdout F"],
    [b"2024-02-29T00:00:00Z stdout F leap day", b"2026-02-30T00:00:00Z stdout F no day", b"2026-01-01T00:00:00Z std"],
    [b"2026-01-01T00:00:00Z stdout F one", b"2026-01-01T00:00:00Z stdout P two", b"2026-01-01T00:00:00Z stdout F -end"],
    [b"2026-01-01T00:00:00Z stdout Fx tag", b"garbage", b"", b"2026-01-01T00:00:00Z stdout F  two spaces "],
    [b"2026-01-01T00:00:00Z stdout F 2026-01-01T00:00:00Z stdout F twice", b"0000-01-01T00:00:00Z stdout F no year"],
])  # fmt: skip
def test_text_is_the_same_whichever_way_it_is_made(entries: list[bytes], piece: int) -> None:
    """Whole lines at once, or one by one as where one of the streams is wanted."""
    data = b"".join(entry + b"\n" for entry in entries)
    quick, slow = LogText(), LogText(streams=("stdout", "stderr", "another"))
    texts = []
    for one in (quick, slow):
        pieces = [one.feed(data[start : start + piece]) for start in range(0, len(data), piece)]
        texts.append(b"".join((*pieces, one.close())))
    assert texts[0] == texts[1]


def test_limit_counts_in_whole_lines_too() -> None:
    text = LogText(limit_bytes=5)
    assert text.feed(b"2026-01-01T00:00:00Z stdout F abc\n2026-01-01T00:00:00Z stdout F def\n") == b"abc\nd"
    assert text.full
