"""Runs worker.py for an operation that may hang, and gives up on it after a deadline.

Before: pod_dir.py.  Next: worker.py in a process of its own.  Effects: starts and kills that process; the event loop
never touches what the worker touches.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_WORKER = str(Path(__file__).with_name("worker.py"))
_REAP_S = 1.0


class HelperError(Exception):
    """The operation failed as a whole or did not end in time; the text is the cause."""


class HelperTimeoutError(HelperError):
    """It did not end in time, as where a file system does not answer; any other end says nothing about that.

    `is_over` says whether the process that was killed for it has ended by now.
    """

    def __init__(self, text: str, is_over: Callable[[], bool] = lambda: True) -> None:
        super().__init__(text)
        self.is_over = is_over


async def run_helper(operation: str, *arguments: str, deadline_s: float) -> list[str]:
    """The worker's answers. Raises HelperError, HelperTimeoutError after the deadline.

    A worker that hangs in the kernel cannot be killed; it is left behind and ends when the kernel lets it.  Programs
    that it has started are killed with it.
    """
    try:
        process = await _start(operation, *arguments)
    except OSError as error:
        raise HelperError(f"cannot start the helper: {error.strerror}") from error
    try:
        async with asyncio.timeout(deadline_s):
            output, errors = await process.communicate()
    except TimeoutError:
        raise HelperTimeoutError(f"no answer within {deadline_s:g} s", lambda: process.returncode is not None) from None
    finally:
        if process.returncode is None:
            await _kill(process)
    if process.returncode != 0:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise HelperError(lines[-1] if lines else f"the helper ended with {process.returncode}")
    return [os.fsdecode(answer) for answer in output.split(b"\0")[:-1]]


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        _WORKER,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAP_S):
            await process.wait()
