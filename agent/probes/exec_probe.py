"""Probe of kind exec: a command in the container, by the runtime.

Before: prober.py with an `ExecAsk`.  Next: the result for machine.py.  Effects: one ExecSync call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent.probes.machine import Outcome, ProbeResult
from cri_client.errors import CriError, DeadlineExceeded
from cri_client.types import ExecSyncResponse

_MAX_OUTPUT = 10 * 1024


class ExecRuntime(Protocol):
    """The part of `cri_client.protocols.Runtime` that this probe needs."""

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_s: int = 0) -> ExecSyncResponse:
        """Run a command, at most `timeout_s` seconds."""
        ...


async def run_exec(runtime: ExecRuntime, container_id: str, command: tuple[str, ...], timeout_s: int) -> ProbeResult:
    """Exit code 0 is a success, any other a failure with the command's output (at most 10 KiB).

    A command that outlives its time is a failure; a runtime that cannot be asked is no answer.
    """
    try:
        answer = await runtime.exec_sync(container_id, command, timeout_s)
    except DeadlineExceeded:
        text = f'command timed out: "{" ".join(command)}" timed out after {timeout_s}s'
        return ProbeResult(Outcome.FAILURE, text, timed_out=True)
    except CriError as error:
        return ProbeResult(Outcome.UNKNOWN, str(error))
    output = (answer.stdout + answer.stderr)[:_MAX_OUTPUT].decode(errors="replace")
    return ProbeResult(Outcome.SUCCESS if answer.exit_code == 0 else Outcome.FAILURE, output)
