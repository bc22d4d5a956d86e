"""The only writer of our table: one `nft -f` per change.  I/O.

Before: `proxy.nftables.diff` made the text.  Next: the kernel.  The text is handed over as a memory file, not through a
pipe: should this process die now, nft still reads all of it or nothing, and the kernel takes it as one transaction.
"""

from __future__ import annotations

import os
import re
import signal

from proxy.backend import BackendBusyError, BackendError, RulesRefusedError
from proxy.programs import Finished, execute, memory_file, write_deadline_s

_PASSING = re.compile(r"temporarily unavailable|No buffer space available|Cannot allocate memory|Interrupted system")
_PLACE = re.compile(r"^\S*?:\d+:\d+-\d+: Error: ")
_LONGEST = 200
_GIVES_UP = (signal.SIGABRT, signal.SIGSEGV)


async def apply_transaction(text: str, *flags: str) -> None:
    """Commit `text` (with the flag --check: only ask whether it would be taken).

    Raises RulesRefusedError with the kernel's reason, BackendBusyError or BackendError.
    """
    source = memory_file("longshore-nft", text.encode())
    try:
        done = await execute("nft", *flags, "-f", "-", stdin=source, deadline_s=write_deadline_s(text))
    finally:
        os.close(source)
    if done.code:
        raise failure(done)


def failure(done: Finished) -> BackendError:
    """The error: nft's own reason, without the quoted input, which may be thousands of elements long."""
    if -done.code in _GIVES_UP:
        # Some versions of it do so over rules that they cannot write; which ones these are, can be found out.
        said = " ".join(done.err.split())[:_LONGEST]
        cause = f"nft gives up ({signal.Signals(-done.code).name}){f': {said}' if said else ''}"
        return RulesRefusedError(f"cannot write service rules with nft: {cause}", cause)
    if done.code < 0:
        return BackendError(f"cannot write service rules with nft: killed by signal {-done.code}")
    cause = refusal(done.err) or f"exit status {done.code}"
    message = f"cannot write service rules with nft: {cause}"
    if _PASSING.search(done.err):
        return BackendBusyError(message)
    return RulesRefusedError(message, f"refused by nft: {cause}")


def refusal(said: str) -> str:
    """The first reason nft gives, in a form that does not depend on where in the input it was."""
    lines = said.splitlines()
    for number, line in enumerate(lines):
        if "Error: " in line:
            reason = _PLACE.sub("", line)
            marked = _marked(lines[number + 1 : number + 3])
            return f"{reason}: {marked}" if marked else reason
    return " ".join(said.split())[:_LONGEST]


def _marked(quoted: list[str]) -> str:
    """The words of the quoted line that nft underlined."""
    if len(quoted) < 2 or "^" not in quoted[1]:
        return ""
    first, last = quoted[1].index("^"), quoted[1].rindex("^")
    return quoted[0][first : last + 1][:_LONGEST]
