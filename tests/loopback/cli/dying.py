"""A command that is killed at its nth change of the file system: the kernel's SIGKILL, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Forks once per line of its input, and the child dies at that many changes of the file system.
_KILLER = """
import os, signal, sys
import cli.backups.install, cli.control_plane, cli.restore
from cli.main import main
CHANGES = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.chmod", "os.chown", "os.symlink", "os.truncate")
sys.argv[0] = "longshore"
for line in sys.stdin:
    left = int(line)
    child = os.fork()
    if not child:
        def dying(event, arguments):
            global left
            if event in CHANGES or (event == "open" and arguments[2] & os.O_CREAT):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(dying)
        os.dup2(2, 1)
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def dying_command(*words: str) -> Iterator[Callable[[int], bool]]:
    """Gives a function that runs `longshore WORDS` and has it die after that many changes; False when it came to its
    end.
    """
    command = [sys.executable, "-c", _KILLER, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killer:
        assert killer.stdin is not None
        assert killer.stdout is not None

        def run(steps: int) -> bool:
            assert killer.stdin is not None
            assert killer.stdout is not None
            print(steps, file=killer.stdin, flush=True)
            status = int(killer.stdout.readline())
            assert status in (0, -signal.SIGKILL)
            return status != 0

        yield run
        killer.stdin.close()
