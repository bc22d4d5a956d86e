from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.follow_log import as_it_comes
from cri_client.log_files import attempts, follow, older_than, open_at_tail, read_rotated
from daemonkit import dir_changes
from tests.unit.cli.conftest import Node


def entry(number: int, text: str, stream: str = "stdout", tag: str = "F") -> bytes:
    return f"2026-01-31T12:00:{number:02d}.5Z {stream} {tag} {text}\n".encode()


@pytest.fixture
def directory(live: Node) -> Path:
    """The log directory of container web of pod web-n1, which has a second container, log."""
    logs_dir = live.base / "logs"
    directory = logs_dir / "default_web-n1_u1" / "web"
    directory.mkdir(parents=True)
    pod: dict[str, Any] = {
        "metadata": {"name": "web-n1", "namespace": "default", "uid": "u1"},
        "spec": {"nodeName": "n1", "containers": [{"name": "web"}, {"name": "log"}]},
    }
    live.agent = {
        "/v1/status": {"nodeName": "n1", "podLogsDir": str(logs_dir)},
        "/v1/pods": {"pods": [{"pod": pod, "source": "", "waiting": []}], "errors": []},
    }
    return directory


def test_the_latest_run_in_plain_words(live: Node, directory: Path) -> None:
    (directory / "0.log").write_bytes(entry(0, "old"))
    (directory / "10.log").write_bytes(
        entry(1, "one") + entry(2, "err", "stderr") + entry(3, "ha", tag="P") + entry(4, "lf")
    )
    (directory / "9.log").write_bytes(entry(0, "older"))
    result = live.run("logs", "web", "-c", "web")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "one\nerr\nhalf\n", "")


def rotated(directory: Path) -> Path:
    """Lines 0 to 8: three in a packed file, three in a plain one, three in the present one; and what is none of it."""
    lines = [entry(number, str(number)) for number in range(9)]
    (directory / "1.log.20260131-110000.gz").write_bytes(gzip.compress(b"".join(lines[:3])))
    (directory / "1.log.20260131-120000").write_bytes(b"".join(lines[3:6]))
    (directory / "1.log.20260131-120000.gz").write_bytes(b"half packed")
    (directory / "1.log.20260131-120000.tmp").write_bytes(b"half packed")
    (directory / "0.log.20260131-120000").write_bytes(entry(0, "another run"))
    present = directory / "1.log"
    present.write_bytes(b"".join(lines[6:]))
    return present


@pytest.mark.parametrize(
    ("options", "first"), [((), 0), (("--tail", "9"), 0), (("--tail", "100"), 0), (("--tail", "7"), 2),
                           (("--tail", "6"), 3), (("--tail", "4"), 5), (("--tail", "3"), 6), (("--tail", "1"), 8),
                           (("--tail", "0"), 9)],
)  # fmt: skip
def test_what_rotation_has_put_aside_belongs_to_the_log(
    live: Node, directory: Path, options: tuple[str, ...], first: int
) -> None:
    rotated(directory)
    result = live.run("logs", "web", "-c", "web", *options)
    assert (result.exit_code, result.stdout.split()) == (0, [str(number) for number in range(first, 9)])


def test_a_damaged_file_costs_its_own_lines_only(live: Node, directory: Path) -> None:
    present = rotated(directory)
    packed = directory / "1.log.20260131-110000.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    result = live.run("logs", "web", "-c", "web")
    assert (result.exit_code, result.stdout.split()[-3:]) == (0, ["6", "7", "8"])
    assert str(packed) in result.stderr
    present.unlink()  # between the rename and the new file
    assert live.run("logs", "web", "-c", "web", "--tail", "2").stdout.split() == ["4", "5"]


def test_a_rotation_while_we_read_loses_and_repeats_nothing(directory: Path) -> None:
    present = rotated(directory)
    with open_at_tail(directory, 1, None) as file:
        present.rename(directory / "1.log.20260131-130000")
        present.write_bytes(entry(9, "new"))
        older = b"".join(read_rotated(older_than(file, directory, 1), file, None))
        assert [line.split()[-1] for line in (older + file.read()).splitlines()] == [b"%d" % one for one in range(9)]
    with open_at_tail(directory, 1, 2) as file:
        (directory / "1.log.20260131-130000").unlink()
        older = b"".join(read_rotated(older_than(file, directory, 1), file, 2))
        assert [line.split()[-1] for line in (older + file.read()).splitlines()] == [b"5", b"new"]


def test_options(live: Node, directory: Path) -> None:
    (directory / "0.log").write_bytes(entry(0, "old"))
    (directory / "1.log").write_bytes(b"".join(entry(number, str(number)) for number in range(5)))
    assert live.run("logs", "web-n1", "--tail", "2", "-c", "web").stdout == "3\n4\n"
    assert live.run("logs", "web", "--tail", "0", "-c", "web").stdout == ""
    assert live.run("logs", "web", "-p", "-c", "web").stdout == "old\n"
    stamped = live.run("logs", "web", "--timestamps", "--tail", "1", "-c", "web").stdout
    assert stamped == "2026-01-31T12:00:04.500000000Z 4\n"


def test_the_default_container_is_named(live: Node, directory: Path) -> None:
    (directory / "0.log").write_bytes(entry(0, "x"))
    result = live.run("logs", "pod/web")
    assert (result.stdout, result.stderr) == ("x\n", "Defaulted container 'web' out of: web, log\n")
    live.agent["/v1/pods"]["pods"][0]["pod"]["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/default-container": "log"
    }
    assert "container log has no log yet" in live.run("logs", "web").stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "cannot find pod 'nope'"),
        (["web", "-c", "nope"], "cannot find container 'nope' in pod web-n1 (it has: web, log)"),
        (["web", "-c", "log"], "container log has no log yet"),
        (["web", "-c", "web", "-p"], "container web has no previous run yet"),
        (["web", "-n", "other"], "cannot find pod 'web'"),
    ],
)
def test_what_is_not_there(live: Node, directory: Path, arguments: list[str], words: str) -> None:
    (directory / "0.log").write_bytes(entry(0, "x"))
    result = live.run("logs", *arguments)
    assert result.exit_code == 3
    assert words in result.stderr


def test_garbage_is_printed_as_it_is(live: Node, directory: Path) -> None:
    (directory / "0.log").write_bytes(b"not an entry\n" + entry(0, "x") + b"\xff\xfe")
    result = live.run("logs", "web", "-c", "web")
    assert result.stdout_bytes == b"not an entry\nx\n\xff\xfe\n"


@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("end", [b"", b"half"])
def test_tail_is_exact_across_blocks(tmp_path: Path, count: int, end: bytes) -> None:
    lines = [entry(number % 60, "x" * (number % 300)) for number in range(1000)] + ([end] if end else [])
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(lines))
    with open_at_tail(tmp_path, 0, count) as file:
        assert file.read() == b"".join(lines[-count:] if count else [])


def test_attempts_in_numeric_order(tmp_path: Path) -> None:
    for name in ("10.log", "9.log", "9.log.20260131-120000.gz", "11.log.20260131-120000", "x.log", "1.txt", "2.log.x"):
        (tmp_path / name).touch()
    assert attempts(tmp_path) == [9, 10, 11]
    assert attempts(tmp_path / "none") == []


def collect(directory: Path, steps: list[Callable[[], object]]) -> bytes:
    """What `follow` yields while the steps are done, each when nothing more is new."""
    out = b""
    file = open_at_tail(directory, 0, None)
    with contextlib.closing(follow(directory, 0, file, older_than(file, directory, 0))) as stream:
        for data in stream:
            out += data
            if not data:
                if not steps:
                    break
                steps.pop(0)()
    assert not steps
    return out


def test_follow_through_rotation_and_restart(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"a")

    def rotate() -> None:
        with log.open("ab") as old:
            log.rename(tmp_path / "0.log.20260131-120000")
            old.write(b"c")
        log.write_bytes(b"d")

    steps: list[Callable[[], object]] = [
        lambda: log.write_bytes(b"ab"),
        rotate,
        lambda: (tmp_path / "1.log").write_bytes(b"e"),
        lambda: log.unlink(),
        lambda: (tmp_path / "1.log").write_bytes(b"ef"),
    ]
    assert collect(tmp_path, steps) == b"abcdef"


def test_follow_reads_what_was_rotated_twice_while_it_slept(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    (tmp_path / "0.log.20260131-110000").write_bytes(b"before")
    log.write_bytes(b"a")

    def rotate(stamp: str, text: bytes) -> None:
        log.rename(tmp_path / f"0.log.{stamp}")
        log.write_bytes(text)

    def twice_and_once_more() -> None:
        rotate("20260131-120000", b"b\n")
        rotate("20260131-130000", b"c\n")
        first = tmp_path / "0.log.20260131-120000"
        first.with_name(f"{first.name}.gz").write_bytes(gzip.compress(first.read_bytes()))
        first.unlink()
        rotate("20260131-140000", b"d")

    def in_the_next_run() -> None:
        (tmp_path / "1.log.20260131-150000").write_bytes(b"e\n")
        (tmp_path / "1.log").write_bytes(b"f")

    assert collect(tmp_path, [twice_and_once_more, in_the_next_run]) == b"ab\nc\nde\nf"


def test_follow_begins_between_the_rename_and_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "0.log.20260131-110000").write_bytes(b"a")
    aside = tmp_path / "0.log.20260131-120000"
    aside.write_bytes(b"b")
    steps: list[Callable[[], object]] = [
        lambda: aside.write_bytes(b"bc"),
        lambda: (tmp_path / "0.log").write_bytes(b"d"),
    ]
    assert collect(tmp_path, steps) == b"bcd"


def test_since_and_limits(live: Node, directory: Path) -> None:
    (directory / "0.log.20260131-120000").write_bytes(entry(0, "0") + entry(1, "1"))
    (directory / "0.log").write_bytes(entry(2, "2") + b"torn\n" + entry(3, "3"))

    def lines(*options: str) -> list[str]:
        result = live.run("logs", "web", "-c", "web", *options)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.split()

    assert lines("--since-time", "2026-01-31T12:00:01Z") == ["1", "2", "torn", "3"]
    assert lines("--since-time", "2026-01-31T13:00:03.5+01:00") == ["3"]
    assert lines("--since-time", "2026-01-31T12:00:01Z", "--tail", "2") == ["3"]
    assert lines("--since", "1s") == []
    assert lines("--since", "876000h") == ["0", "1", "2", "torn", "3"]
    assert live.run("logs", "web", "-c", "web", "--limit-bytes", "5").stdout == "0\n1\n2"
    both = live.run("logs", "web", "--since", "1s", "--since-time", "2026-01-31T12:00:01Z")
    assert (both.exit_code, "only one of" in both.stderr) == (2, True)
    assert live.run("logs", "web", "--since", "1 day").exit_code == 2


def test_follow_ends_when_the_pod_is_gone(tmp_path: Path) -> None:
    directory = tmp_path / "web"
    directory.mkdir()
    (directory / "0.log").write_bytes(b"a")

    def remove() -> None:
        (directory / "0.log").unlink()
        directory.rmdir()

    stream = follow(directory, 0, open_at_tail(directory, 0, None), [])
    seen = [next(stream), next(stream)]
    remove()
    assert seen == [b"a", b""]
    assert b"".join(stream) == b""


def test_who_follows_is_woken_by_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_PAUSE_S", "_MAX_PAUSE_S", "_TICK_S", "_SLOW_LOOK_S"):  # no clock wakes it in time
        monkeypatch.setattr(dir_changes, name, 3600.0)
    log = tmp_path / "web" / "0.log"
    log.parent.mkdir()
    log.write_bytes(b"a")
    stream = as_it_comes(follow(log.parent, 0, open_at_tail(log.parent, 0, None), []), log.parent)
    assert [next(stream) for _ in range(3)] == [b"a", b"", b""]
    with log.open("ab") as file:
        file.write(b"b")
    assert next(stream) == b"b"
    assert next(stream) == b""
    (log.parent / "1.log").write_bytes(b"c")
    assert next(stream) == b"c"
    assert next(stream) == b""
    shutil.rmtree(log.parent)
    assert b"".join(stream) == b""


def test_following_as_a_process_prints_at_once_and_stops_on_sigint(live: Node, directory: Path) -> None:
    log = directory / "0.log"
    log.write_bytes(entry(0, "first"))
    # What a shell starts in the background ignores SIGINT, and with it all that it starts.
    listening = ["env", "--default-signal=INT", sys.executable, "-m", "cli.main"]
    command = [*listening, f"--root-dir={live.base}", "logs", "web", "-c", "web", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ}) as process:
        guard = threading.Timer(60, process.kill)
        guard.start()
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        with log.open("ab") as file:
            file.write(entry(1, "second"))
        assert process.stdout.readline() == b"second\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 1
        guard.cancel()


@pytest.mark.parametrize(
    ("state", "last_state", "shown"),
    [({"waiting": {}}, {"terminated": {}}, "crashed"), ({"running": {}}, {"terminated": {}}, "before")],
)
def test_previous_while_a_container_waits_for_its_next_run(
    live: Node, directory: Path, state: dict[str, Any], last_state: dict[str, Any], shown: str
) -> None:
    (directory / "0.log").write_bytes(entry(0, "before"))
    (directory / "1.log").write_bytes(entry(1, "crashed"))
    pod = live.agent["/v1/pods"]["pods"][0]["pod"]
    pod["status"] = {"containerStatuses": [{"name": "web", "state": state, "lastState": last_state}]}
    assert live.run("logs", "web", "-c", "web", "-p").stdout == f"{shown}\n"
