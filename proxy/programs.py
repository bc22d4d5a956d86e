"""Running the programs that write rules (iptables and its like, nft).  I/O; the only place that starts them.

Before: a backend knows which one and with which words.  Next: its output, or a BackendError that quotes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from proxy.backend import BackendBusyError, BackendError

QUESTION_DEADLINE_S = 10.0
_READ_DEADLINE_S = 30.0
_WRITE_DEADLINE_S = 30.0
_WRITE_LINE_S = 0.005  # 60,000 lines by iptables-nft on a busy machine took 38 s
_TELL_AFTER_S = 5.0
_REAP_S = 1.0
_FINISH_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended."""

    code: int
    out: str
    err: str


def write_deadline_s(text: str) -> float:
    """How long an iptables-restore of this input may take before it is taken for stuck."""
    return _WRITE_DEADLINE_S + _WRITE_LINE_S * text.count("\n")


async def execute(*command: str, stdin: int | None = None, deadline_s: float = QUESTION_DEADLINE_S) -> Finished:
    """Run a program to its end; raises BackendError when it cannot start, BackendBusyError when it takes too long.

    Then it is killed, and so is all that it started.
    """
    # Files instead of pipes: nobody has to read along, and a program that outlives us meets no broken pipe.
    with _output() as out, _output() as err:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
                stdout=out,
                stderr=err,
                # The lock of `proxy.only_one` is inheritable (nothing else is): it is free when the last of us is gone.
                close_fds=False,
                start_new_session=True,
            )
        except OSError as cause:
            raise BackendError(f"cannot run {command[0]}: {cause.strerror}") from cause
        code = await _ended(process, command, deadline_s)
        return Finished(code, _text(out), _text(err))


async def _ended(process: asyncio.subprocess.Process, command: tuple[str, ...], deadline_s: float) -> int:
    watch = asyncio.get_running_loop().call_later(_TELL_AFTER_S, _tell_slow, command, process.pid)
    try:
        async with asyncio.timeout(deadline_s):
            return await process.wait()
    except TimeoutError:
        raise BackendBusyError(f"cannot run {' '.join(command)}: not finished after {deadline_s:.0f} s") from None
    except asyncio.CancelledError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S):  # we are told to stop: what has begun may end in order
                await process.wait()
        raise
    finally:
        watch.cancel()
        if process.returncode is None:
            _kill(process.pid)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REAP_S):  # one that hangs in the kernel is left alone
                    await process.wait()


@contextlib.contextmanager
def _output() -> Iterator[int]:
    file = os.memfd_create("longshore-output", os.MFD_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def _text(file: int) -> str:
    data = bytearray(os.fstat(file).st_size)
    count = os.preadv(file, [data], 0)
    return data[:count].decode(errors="replace")


def _tell_slow(command: tuple[str, ...], pid: int) -> None:
    _log.warning("%s (pid %d) still runs after %g s", " ".join(command), pid, _TELL_AFTER_S)


def _kill(pid: int) -> None:
    """The program and what it started; it has a session of its own.  Whoever waits for it, reaps it."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


async def run(*command: str) -> str:
    """Standard output of a program that must succeed."""
    done = await execute(*command, deadline_s=_READ_DEADLINE_S)
    if done.code:
        raise BackendError(f"cannot run {' '.join(command)}: {done.err.strip() or f'exit status {done.code}'}")
    return done.out


def memory_file(name: str, data: bytes) -> int:
    """An open descriptor of an unnamed file holding `data`, at its start: standard input that cannot be cut short."""
    source = os.memfd_create(name, os.MFD_CLOEXEC)
    left = memoryview(data)
    while left:
        left = left[os.write(source, left) :]
    os.lseek(source, 0, os.SEEK_SET)
    return source
