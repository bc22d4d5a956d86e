"""Tests of this folder run in a virtual machine, because this host's kernel may have no IPVS.  I/O.

The machine sees this repository and its virtual environment through hostfs (nothing is copied) and runs one pytest over
all tests that were selected; here, each test then has the outcome that it had there.
"""

from __future__ import annotations

import os
import shlex
import sysconfig
import time
import xml.etree.ElementTree as Xml
from pathlib import Path
from typing import Any

import pytest

from lab.host import LabHost
from lab.vm import VirtualMachine, lay_network
from lab.vm_image import NoMachineError, vm_image

INSIDE = "LONGSHORE_IN_MACHINE"
REPOSITORY = Path(__file__).parents[2]
_DEADLINE_S = 900.0  # under two minutes on an idle machine of two cores; the first test waits for all of them


class RunInMachine:
    """Runs tests there once and knows how they ended."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._outcomes: dict[str, tuple[str, str]] | None = None
        self._skipped = ""

    def outcome(self, name: str) -> tuple[str, str]:
        """("passed", "failed" or "skipped", text)."""
        if self._outcomes is None:
            self._outcomes = self._run()
        missing = ("failed", f"it has no outcome; the machine said:\n{self._text}")
        return ("skipped", self._skipped) if self._skipped else self._outcomes.get(name, missing)

    def _run(self) -> dict[str, tuple[str, str]]:
        self._text = ""
        if os.geteuid() != 0:
            self._skipped = "needs root: starts a virtual machine"
            return {}
        try:
            image = vm_image()
        except NoMachineError as error:
            self._skipped = str(error)
            return {}
        with LabHost("ipvs") as host:
            lay_network(host)
            began_s = time.monotonic()
            with VirtualMachine(host, image, host.base / "node-1") as machine:
                booted_s = time.monotonic()
                report = run_tests(machine, self._names)
                print(f"booted in {booted_s - began_s:.1f} s, tested in {time.monotonic() - booted_s:.1f} s")
        self._text = report
        return read_report(report)


def run_tests(machine: VirtualMachine, names: list[str]) -> str:
    """The JUnit report of a pytest in the machine, or what it said instead."""
    shared = {REPOSITORY, Path(sysconfig.get_paths()["purelib"])}
    places = [place for place in shared if not any(other in place.parents for other in shared)]
    mounts = [f"mkdir -p {place} && mount -t hostfs -o {place},ro none {place}" for place in places]
    path = os.pathsep.join((str(REPOSITORY), sysconfig.get_paths()["purelib"]))
    environment = f"{INSIDE}=1 PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1"
    options = "-q -p no:cacheprovider --junitxml=/tmp/report.xml --durations=15"
    chosen = shlex.join(names)
    script = f"""{" && ".join(mounts)} && cd {REPOSITORY} || exit 1
{environment} python3 -m pytest {options} {chosen} >/tmp/said 2>&1
cat /tmp/report.xml || cat /tmp/said"""
    return machine.shell(script, check=False, timeout_s=_DEADLINE_S)


def read_report(text: str) -> dict[str, tuple[str, str]]:
    """Test name ("module::test") -> outcome."""
    try:
        root = Xml.fromstring(text)  # noqa: S314 # our own pytest wrote it
    except Xml.ParseError:
        return {}
    found: dict[str, tuple[str, str]] = {}
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        outcome = ("passed", "")
        for kind, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
            if (part := case.find(kind)) is not None:
                outcome = (word, part.text or part.get("message") or "")
        found[name] = outcome
    return found


class MachineTest(pytest.Item):
    """One test that runs there."""

    def __init__(self, *, there: RunInMachine, **settings: Any) -> None:
        super().__init__(**settings)
        self._there = there
        self.add_marker(pytest.mark.timeout(_DEADLINE_S + 300))

    def runtest(self) -> None:
        """Its outcome."""
        outcome, text = self._there.outcome(f"{self.path.stem}::{self.name}")
        if outcome == "skipped":
            pytest.skip(text)
        if outcome == "failed":
            pytest.fail(text, pytrace=False)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it is."""
        return self.path, None, self.name
