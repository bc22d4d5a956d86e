"""Versions as tuples of numbers, to be compared. Pure.

Used where one program looks at the version of another: kernel, runtime, backup.
"""

from __future__ import annotations

import re


def release(text: str) -> tuple[int, ...]:
    """The numbers a version begins with: (0, 1, 0) of "0.1.0~bookworm", (1, 7) of "v1.7-rc1", () of "?"."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()
