"""Where a program of the lab runs: on this machine as it is, or inside a `LabHost`. I/O.

Before: nothing. Next: `lab.containerd`, `lab.node` and the demo start programs through the `Machine` protocol, so the
same code drives a private network namespace (tests, bench) and the machine itself (demo).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")
PATIENCE_S = 120.0
"""How long what happens soon is waited for at most, on a machine that is busy with other things."""


class LabError(Exception):
    """Something the lab needs did not happen; the text reads `cannot <verb> <object>: <cause>`."""


def wait_until(
    condition: Callable[[], T | None],
    what: str | Callable[[], str],
    *,
    timeout_s: float = PATIENCE_S,
    every_s: float = 0.05,
) -> T:
    """Return the first truthy answer of `condition`; LabError naming `what` when the deadline passes.

    A `what` that is called then can say how things stand in the end.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            named = what if isinstance(what, str) else what()
            raise LabError(f"cannot wait for {named}: not so after {timeout_s:.0f} s")
        time.sleep(every_s)


def tolerant(condition: Callable[[], T | None], what: str) -> tuple[Callable[[], T | None], Callable[[], str]]:
    """Both for `wait_until`, where what asks may fail for a while: a LabError of `condition` is no answer yet, and the
    last one is said in the end.
    """
    said = [""]

    def look() -> T | None:
        said[0] = ""
        try:
            return condition()
        except LabError as error:
            said[0] = f" (at last: {error})"
            return None

    return look, lambda: f"{what}{said[0]}"


class LabProcess:
    """A program the lab started; `pid` is its id as this machine sees it, also when it runs in a pid namespace.

    `launcher` is what we started ourselves: the program, or the nsenter that waits for it and passes its exit status
    on.
    """

    def __init__(self, launcher: subprocess.Popen[bytes], pid: int, name: str, log: Path | None) -> None:
        self.launcher = launcher
        self.pid = pid
        self.name = name
        self.log = log

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.launcher.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative signal number, or None while it runs."""
        return self.launcher.poll()

    def send_signal(self, number: int) -> None:
        """Signal the program itself; nothing happens when it has ended."""
        if not self.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            # nsenter stops itself when its child is stopped, and would never notice the child's end; when it is
            # continued it continues the child.
            if number != signal.SIGSTOP:
                os.kill(self.launcher.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL) and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        self.wait(PATIENCE_S)

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, then SIGKILL after `timeout_s`; the exit status."""
        self.send_signal(signal.SIGTERM)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait(PATIENCE_S)

    def wait(self, timeout_s: float) -> int:
        """The exit status; subprocess.TimeoutExpired when it still runs after `timeout_s`."""
        return self.launcher.wait(timeout_s)

    def log_text(self, last_bytes: int = 20_000) -> str:
        """The end of what it wrote to stdout and stderr."""
        if self.log is None or not self.log.exists():
            return ""
        return self.log.read_bytes()[-last_bytes:].decode(errors="replace")


def all_threads_stopped(pid: int) -> bool:
    """Whether a process that got SIGSTOP stands still."""
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return set(states) == {"T"}


class Machine(Protocol):
    """Runs programs somewhere. `LocalMachine` and `lab.host.LabHost` are both."""

    def start(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> LabProcess:
        """Start a long-running program, stdout and stderr appended to `log`; `env` replaces the whole environment."""
        ...

    def run(
        self, argv: Sequence[str], *, stdin: str = "", check: bool = True, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and capture its output; LabError with its stderr when it fails and `check`."""
        ...


def run_captured(
    argv: Sequence[str], *, stdin: str = "", check: bool = True, timeout_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Run `argv` here; LabError carries what it said when it fails and `check` is true."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"cannot run {' '.join(argv)}: {error}") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"cannot run {' '.join(argv)}: exit status {done.returncode}: {said}")
    return done


def open_logged(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None, cwd: Path | None
) -> subprocess.Popen[bytes]:
    """Start `argv` in its own session so that a Ctrl-C at the terminal reaches the lab first and not its daemons."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )


class LocalMachine:
    """This machine itself: what the demo uses."""

    def start(
        self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> LabProcess:
        """See `Machine.start`."""
        launcher = open_logged(argv, log=log, env=env, cwd=cwd)
        return LabProcess(launcher, launcher.pid, Path(argv[0]).name, log)

    def run(
        self, argv: Sequence[str], *, stdin: str = "", check: bool = True, timeout_s: float = PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """See `Machine.run`."""
        return run_captured(argv, stdin=stdin, check=check, timeout_s=timeout_s)
