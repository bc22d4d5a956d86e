from __future__ import annotations

import pytest

from daemonkit.release import release


@pytest.mark.parametrize(
    ("older", "newer"),
    [("0.1.0", "0.2.0"), ("0.9.0~bookworm", "0.10.0~bookworm"), ("1.0", "1.0.1"), ("v1.6.20~ds1", "1.7"), ("?", "0")],
)
def test_versions_are_numbers(older: str, newer: str) -> None:
    assert release(older) < release(newer)
