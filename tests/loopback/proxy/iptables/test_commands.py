"""Programs that hang, and what iptables says when it refuses: real child processes, no iptables."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.backend import BackendBusyError, BackendError, RulesRefusedError
from proxy.iptables.apply import explain_failure
from proxy.iptables.observe import observe
from proxy.iptables.tools import Tools
from proxy.programs import Finished, execute, write_deadline_s

TOOLS = Tools("nft", 4, "iptables-nft", "iptables-nft-save", "/usr/sbin/iptables-nft-restore", "")
TEXT = "*nat\n:KUBE-SVC-A - [0:0]\n-A KUBE-SVC-A -p sctp -j RETURN\nCOMMIT\n"


async def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with pytest.raises(BackendBusyError, match="not finished after"):
        await execute("/bin/sh", "-c", f"sleep 1000 & echo $! > {told}; wait", deadline_s=3.0)
    grandchild = int(told.read_text())
    for _ in range(1200):
        if not _runs(grandchild):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("what it started still runs")


async def test_a_program_may_end_in_order_when_the_proxy_is_stopped_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done = tmp_path / "begun", tmp_path / "done"
    run = asyncio.get_running_loop().create_task(execute("/bin/sh", "-c", f"touch {begun}; sleep 0.3; touch {done}"))
    for _ in range(6000):
        if begun.exists():
            break
        await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.wait({run})
    assert done.exists()
    monkeypatch.setattr("proxy.programs._FINISH_S", 0.1)
    told = tmp_path / "pid"
    run = asyncio.get_running_loop().create_task(execute("/bin/sh", "-c", f"echo $$ > {told}; sleep 1000"))
    for _ in range(6000):
        if told.exists() and told.read_text():
            break
        await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.wait({run})
    for _ in range(1200):
        if not _runs(int(told.read_text())):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it still runs")


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


async def test_a_descriptor_that_may_be_inherited_is() -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        done = await execute("/bin/sh", "-c", f"test -e /proc/self/fd/{write} && ! test -e /proc/self/fd/{read}")
    finally:
        os.close(read)
        os.close(write)
    assert done.code == 0


def test_a_big_restore_may_take_longer() -> None:
    assert write_deadline_s("-A x\n" * 60_000) > 300
    assert write_deadline_s(TEXT) < 60


@pytest.mark.parametrize(
    ("code", "said", "cause"),
    [
        (
            4,
            (
                "iptables-nft-restore v1.8.9 (nf_tables): \n"
                "line 3: RULE_APPEND failed (No such file or directory): rule in chain A\n"
            ),
            "RULE_APPEND failed (No such file or directory): rule in chain A: -A KUBE-SVC-A -p sctp -j RETURN",
        ),
        (
            2,
            (
                "iptables-restore v1.8.9 (legacy): Couldn't load match `x':No such file\n\nError occurred at line: 3\n"
                "Try `iptables-restore -h' or 'iptables-restore --help' for more information.\n"
            ),
            "Couldn't load match `x':No such file: -A KUBE-SVC-A -p sctp -j RETURN",
        ),
        (
            1,
            "iptables-restore: line 4 failed\n",
            "iptables and the kernel do not take its rules (a kernel module may be missing)",
        ),
    ],
)
def test_the_cause_of_a_refusal_reads_the_same_each_time(code: int, said: str, cause: str) -> None:
    error = explain_failure(TOOLS, TEXT, Finished(code, "", said))
    assert isinstance(error, RulesRefusedError)
    assert error.cause == f"refused by iptables-nft-restore: {cause}"
    assert str(error).startswith("cannot write service rules with iptables-nft-restore: ")


def test_what_was_killed_refused_nothing() -> None:
    error = explain_failure(TOOLS, TEXT, Finished(-9, "", ""))
    assert type(error) is BackendError
    assert "killed by signal 9" in str(error)


@pytest.mark.parametrize("said", ["line 4 failed: Resource temporarily unavailable", "No buffer space available"])
def test_what_passes_by_itself_refused_nothing(said: str) -> None:
    assert isinstance(explain_failure(TOOLS, TEXT, Finished(4, "", said)), BackendBusyError)


async def test_a_table_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    save = tmp_path / "iptables-save"
    save.write_text("#!/bin/sh\necho \"# Table \\`nat' is incompatible, use 'nft' tool.\"\n")
    save.chmod(0o755)
    with pytest.raises(BackendError, match=r"cannot read table nat .*nft list table ip nat"):
        await observe(replace(TOOLS, save=str(save)))
