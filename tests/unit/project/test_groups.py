"""Which tests stay together where several processes share them."""

from __future__ import annotations

import pytest

from tests.conftest import group_of


@pytest.mark.parametrize(
    ("test", "group"),
    [
        ("tests/lab/test_pods.py::test_a[distribution-kill]", "lab distribution"),
        ("tests/lab/test_hooks.py::test_b[2.x]", "lab 2.x"),
        ("tests/lab/test_demo.py::test_c", "tests/lab/test_demo.py"),
        ("tests/contract/test_events.py::test_d[containerd-2-x]", "contract containerd-2"),
        ("tests/kernel/test_sctp.py::test_e[IPv4-nft]", "kernel"),
        ("tests/loopback/cli/test_logs.py::test_f[2.x]", "tests/loopback/cli/test_logs.py"),
    ],
)
def test_groups(test: str, group: str) -> None:
    assert group_of(test) == group
