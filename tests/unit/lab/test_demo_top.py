"""What counts as a busy pod in `kubectl top`."""

from __future__ import annotations

import pytest

from lab.demo_top import is_busy


@pytest.mark.parametrize(
    ("line", "busy"),
    [
        ("busy-7d9f-abcde   99m   25Mi", True),
        ("busy-7d9f-abcde   34m   24Mi", True),
        ("busy-7d9f-abcde   0m   25Mi", False),
        ("busy-7d9f-abcde   990m   25Mi", False),
        ("busy-7d9f-abcde   99m   0Mi", False),
        ("busy-7d9f-abcde   99m   250Mi", False),
        ("busy-7d9f-abcde   <unknown>   <unknown>", False),
        ("", False),
    ],
)
def test_only_what_the_pod_really_does_counts(line: str, busy: bool) -> None:
    assert is_busy(line.split()) is busy
