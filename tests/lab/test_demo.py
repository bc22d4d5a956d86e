"""The demo itself, on a test host so that it can run beside anything: it succeeds, and cleans up after violence too."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from lab.host import LabHost
from lab.machine import wait_until

DEMO = [sys.executable, "-m", "lab.demo"]


def test_demo_shows_everything_and_leaves_nothing(demo_host: LabHost) -> None:
    done = demo_host.run(DEMO, check=False, timeout_s=240)
    assert done.returncode == 0, done.stdout + done.stderr
    for scene in (
        "running after",
        "replaced and Ready after",
        "the pod is gone after",
        "60 of 60 requests",
        "nothing left",
    ):
        assert scene in done.stdout
    assert not Path(os.environ["LONGSHORE_DEMO_BASE"]).exists()


def test_demo_that_was_killed_is_cleaned_up_by_make_clean(demo_host: LabHost) -> None:
    base = Path(os.environ["LONGSHORE_DEMO_BASE"])
    demo = demo_host.start(DEMO, log=demo_host.base / "demo.log")
    wait_until(lambda: "requests to the Service" in demo.log_text(), "the middle of the demo", timeout_s=120)
    demo.kill()
    assert base.exists()
    second = demo_host.run(DEMO, check=False)
    assert second.returncode == 1
    assert "exists: another one runs or was killed" in second.stdout
    cleaned = demo_host.run([*DEMO, "--clean"], check=False, timeout_s=120)
    assert cleaned.returncode == 0, cleaned.stdout
    assert "nothing left" in cleaned.stdout
    assert not base.exists()


def test_demo_that_is_interrupted_cleans_up_itself(demo_host: LabHost) -> None:
    demo = demo_host.start(["env", "--default-signal=INT", *DEMO], log=demo_host.base / "demo.log")
    wait_until(lambda: "Three pods into" in demo.log_text(), "the daemons to be up", timeout_s=120)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(120) == 130, demo.log_text()
    assert "nothing left" in demo.log_text()
    assert not Path(os.environ["LONGSHORE_DEMO_BASE"]).exists()
