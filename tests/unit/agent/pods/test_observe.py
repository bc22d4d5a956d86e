"""What counts as an attempt of a container; the sorting into pods is tested through the plan and the workers."""

from __future__ import annotations

import pytest

from agent.pods.observe import ContainerDetail, was_cut_off

# Read off containerd 1.6.20 and 2.2.1, when the caller of StartContainer went away at various instants.
CUT_OFF = (
    "failed to create containerd task: failed to start shim: start failed: : context canceled",
    "failed to create containerd task: failed to start shim: start failed: : signal: killed: unknown",
    "failed to create containerd task: failed to start shim: start failed: unix:///run/c/s/f4: signal: killed: unknown",
    "failed to create containerd task: failed to create shim task: context canceled",
    "failed to create containerd task: failed to get task pid: context canceled: unknown",
    'failed to start containerd task "98ff9604a77c": context canceled: unknown',
)


@pytest.mark.parametrize("message", CUT_OFF)
def test_a_start_whose_caller_was_gone(message: str) -> None:
    assert was_cut_off(ContainerDetail(finished_at_s=5.0, exit_code=128, reason="StartError", message=message))


@pytest.mark.parametrize(
    "detail",
    [
        ContainerDetail(reason="StartError", message='exec: "/absent": no such file or directory'),
        ContainerDetail(reason="StartError", message="failed to start containerd task: context deadline exceeded"),
        ContainerDetail(reason="StartError", message=CUT_OFF[0], started_at_s=4.0),
        ContainerDetail(reason="Error", message=CUT_OFF[0]),
        ContainerDetail(reason="StartError", message="runc did not terminate successfully: signal: killed: unknown"),
        ContainerDetail(reason="StartError", message='exec: "context canceled": executable file not found'),
    ],
)
def test_what_is_an_attempt(detail: ContainerDetail) -> None:
    assert not was_cut_off(detail)
