"""The last words of a container out of the end of its log."""

from __future__ import annotations

import pytest

from agent.pods.termination_message import log_tail


def entry(content: bytes, tag: bytes = b"F", stream: bytes = b"stdout") -> bytes:
    return b"2026-01-31T12:00:00.5Z " + stream + b" " + tag + b" " + content + b"\n"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (entry(b"one") + entry(b"two", stream=b"stderr"), "one\ntwo\n"),
        (entry(b"x" * 16000, b"P") + entry(b"y" * 14000) + entry(b"LAST"), "y" * 2042 + "\nLAST\n"),
        (entry(b"y" * 16000, b"P") + entry(b"y" * 14000, b"P"), "y" * 2048),
        (b"half of a record that beg\n" + entry(b"whole"), "whole\n"),
        (b"".join(entry(str(number).encode()) for number in range(100)), "".join(f"{n}\n" for n in range(20, 100))),
        (entry("\u00e4".encode() * 2000), "\ufffd" + "\u00e4" * 1023 + "\n"),
        (b"", ""),
    ],
)
def test_the_end_of_a_log(log: bytes, message: str) -> None:
    assert log_tail(log) == message
