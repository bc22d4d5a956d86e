"""Programs as both see them: a command for containerd, and what that command does for the fake."""

from cri_client.fake import FakeExec, FakeProgram, FakeRuntime


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


POLITE = shell("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
STUBBORN = shell("trap '' TERM; while :; do sleep 0.05; done")
FAILS = shell("exit 7")
SUCCEEDS = shell("exit 0")
TALKS = shell("echo one; echo two >&2; printf three; sleep 0.1")
ABSENT = ("/no/such/program",)

EXEC_TALKS = shell("echo out; echo err >&2; exit 7")
EXEC_SLOW = ("/bin/sleep", "30")


def teach(fake: FakeRuntime) -> None:
    """Let the fake do with these commands what containerd does."""
    fake.programs |= {
        POLITE: FakeProgram(term_exit_code=3),
        STUBBORN: FakeProgram(term_exit_code=None),
        FAILS: FakeProgram(runs_s=0.01, exit_code=7),
        SUCCEEDS: FakeProgram(runs_s=0.01),
        TALKS: FakeProgram(stdout=b"one\nthree", stderr=b"two\n", runs_s=0.01),
        ABSENT: FakeProgram(start_error='exec: "/no/such/program": no such file or directory'),
    }
    fake.execs |= {
        EXEC_TALKS: FakeExec(b"out\n", b"err\n", 7),
        EXEC_SLOW: FakeExec(runs_s=30),
    }
