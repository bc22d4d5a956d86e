"""The only writer of our rules: one iptables-restore per change.  I/O.

Before: `proxy.iptables.diff` made the text.  Next: the kernel.  The text is handed over as a sealed memory file,
not through a pipe: should this process die now, iptables-restore still reads all of it or nothing, and commits
whole tables.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from proxy.backend import BackendBusyError, BackendError, RulesRefusedError
from proxy.iptables.tools import LOCK_WAIT_S, Tools
from proxy.programs import Finished, execute, memory_file, write_deadline_s

_LINE = re.compile(r"line:?\s+(\d+)")
# What iptables adds to its reason: its name and version, the line's number, where to find help.
_CHANGING = re.compile(
    r"^\S*tables\S*( v\S+ \(\w+\))?:|Error occurred at line: \d+|\bline:? \d+( failed$|:)|Try `.* more information\."
)
_PASSING = re.compile(r"temporarily unavailable|No buffer space available|Cannot allocate memory", re.IGNORECASE)
_CONTEXT_LINES = 2
_LOCK_FILE = Path("/run/xtables.lock")


async def apply_restore(tools: Tools, text: str) -> None:
    """Commit `text`.

    Raises RulesRefusedError quoting the line, BackendBusyError naming the holder of the lock, or BackendError.
    """
    wait = ("--wait", str(LOCK_WAIT_S)) if tools.variant == "legacy" else ()
    source = memory_file("longshore-iptables-restore", text.encode())
    try:
        done = await execute(tools.restore, "--noflush", *wait, stdin=source, deadline_s=write_deadline_s(text))
    finally:
        os.close(source)
    if done.code:
        raise await asyncio.to_thread(explain_failure, tools, text, done)


def explain_failure(tools: Tools, text: str, done: Finished) -> BackendError:
    """The error: one line for the cause, further lines quoting what was refused and its neighbours."""
    cause = " ".join(done.err.split()) or f"exit status {done.code}"
    head = f"cannot write service rules with {os.path.basename(tools.restore)}"
    if "xtables lock" in cause:
        holder = lock_holder()
        return BackendBusyError(f"{head}: the xtables lock was not free for {LOCK_WAIT_S} s; {holder}")
    if _PASSING.search(cause):
        return BackendBusyError(f"{head}: {cause}")
    if done.code < 0:
        return BackendError(f"{head}: killed by signal {-done.code}")
    match = _LINE.search(cause)
    number = int(match[1]) if match else 0
    message = "\n".join((f"{head}: {cause}", *quote_lines(text, number))) if number else f"{head}: {cause}"
    return RulesRefusedError(message, f"refused by {os.path.basename(tools.restore)}: {refusal(text, cause, number)}")


def refusal(text: str, said: str, number: int) -> str:
    """Why rules were refused, without what differs from one attempt to the next."""
    cause = " ".join(_CHANGING.sub(" ", said).split()).rstrip(".") or "iptables and the kernel do not take its rules"
    line = text.split("\n")[number - 1] if number else ""
    return f"{cause}: {line}" if line.startswith("-") else f"{cause} (a kernel module may be missing)"


def quote_lines(text: str, number: int) -> list[str]:
    """The numbered line (from 1) with two lines before and behind it, marked."""
    lines = text.split("\n")
    first = max(1, number - _CONTEXT_LINES)
    last = min(len(lines), number + _CONTEXT_LINES)
    return [f"{'>' if n == number else ' '} {n:5}  {lines[n - 1]}" for n in range(first, last + 1) if lines[n - 1]]


def lock_holder() -> str:
    """Who holds the lock that all iptables-legacy programs take, out of /proc/locks."""
    lock = Path(os.environ.get("XTABLES_LOCKFILE") or _LOCK_FILE)
    try:
        inode = lock.stat().st_ino
        rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError as cause:
        return f"its holder is unknown: {cause}"
    for row in rows:
        # "1: FLOCK  ADVISORY  WRITE 708 00:18:4711 0 EOF"; waiting ones have "->" in the second place.
        if len(row) >= 6 and row[1] != "->" and row[5].rsplit(":", 1)[-1] == str(inode):
            return f"held by pid {row[4]} ({_command_of(row[4])})"
    return "its holder is gone or in another pid namespace"


def _command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return "already gone"
