import time
from pathlib import Path

import pytest

from lab.machine import LabError, LocalMachine, wait_until


def test_run_reports_what_the_program_said() -> None:
    machine = LocalMachine()
    assert machine.run(["cat"], stdin="hello").stdout == "hello"
    assert machine.run(["false"], check=False).returncode == 1
    with pytest.raises(LabError, match=r"cannot run sh -c .*: exit status 3: oh no"):
        machine.run(["sh", "-c", "echo oh no >&2; exit 3"])
    with pytest.raises(LabError, match="cannot run no-such-program"):
        machine.run(["no-such-program"])


def test_process_is_killed_or_stopped_and_keeps_its_log(tmp_path: Path) -> None:
    machine = LocalMachine()
    killed = machine.start(["sh", "-c", "echo started; exec sleep 100"], log=tmp_path / "log")
    wait_until(lambda: "started" in killed.log_text(), "its output")
    assert killed.alive
    killed.kill()
    assert killed.returncode == -9
    stopped = machine.start(["sleep", "100"], log=tmp_path / "log2")
    assert stopped.stop() == -15
    assert not stopped.alive
    stopped.kill()  # nothing happens


def test_stop_of_a_process_that_ignores_sigterm_ends_it(tmp_path: Path) -> None:
    deaf = LocalMachine().start(["sh", "-c", "trap '' TERM; echo deaf; exec sleep 100"], log=tmp_path / "log")
    wait_until(lambda: "deaf" in deaf.log_text(), "its output")
    assert deaf.stop(0.1) == -9


def test_wait_until_gives_up_and_says_for_what() -> None:
    started_s = time.monotonic()
    with pytest.raises(LabError, match="cannot wait for the moon: not so after 0 s"):
        wait_until(lambda: None, "the moon", timeout_s=0.05, every_s=0.01)
    assert time.monotonic() > started_s
    assert wait_until(lambda: "found", "something") == "found"
