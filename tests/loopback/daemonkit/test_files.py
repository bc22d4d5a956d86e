from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from daemonkit.files import (
    LockFile,
    LockHeldError,
    locked_directory,
    quarantine,
    remove_durably,
    replacing,
    write_atomic,
    write_json,
)


def test_write_replaces_and_sets_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write_atomic(path, b"old", 0o644)
    write_atomic(path, b"new", 0o600)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["a.yaml"]


def test_what_a_crash_left_is_used_again(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").write_bytes(b"half a file that was longer")
    write_atomic(tmp_path / "a", b"whole")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"a": b"whole"}


def test_a_temporary_file_that_was_left_gets_its_mode_before_it_gets_the_name(tmp_path: Path) -> None:
    (tmp_path / ".a.tmp").touch(0o644)
    write_atomic(tmp_path / "a", b"secret", 0o600)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_what_the_kernel_takes_in_parts_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:3])))
    write_atomic(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_what_is_written_or_gone_is_on_the_disk_before_anybody_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No power cut is at hand: the calls are watched, and all of them made."""
    done: list[str] = []
    sync, rename, unlink = os.fsync, Path.rename, Path.unlink

    def watched_sync(descriptor: int) -> None:
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        sync(descriptor)

    def watched_rename(path: Path, target: Path) -> Path:
        done.append(f"rename {path.name}")
        return rename(path, target)

    def watched_unlink(path: Path, missing_ok: bool = False) -> None:
        done.append(f"unlink {path.name}")
        unlink(path, missing_ok)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    monkeypatch.setattr(Path, "unlink", watched_unlink)
    home = tmp_path / "home"
    home.mkdir()
    write_atomic(home / "a", b"x")
    remove_durably(home / "a")
    assert done == ["sync .a.tmp", "rename .a.tmp", "sync home", "unlink a", "sync home"]


def test_a_link_in_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".a.tmp").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        write_atomic(tmp_path / "a", b"x")
    assert victim.read_bytes() == b"precious"


def test_somebody_elses_temporary_file_is_not_written_to(tmp_path: Path) -> None:
    """In a directory where others write too, who made it could read what comes."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / ".a.tmp").hardlink_to(tmp_path / "victim")
    write_atomic(tmp_path / "a", b"secret")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    os.mkfifo(tmp_path / ".a.tmp")
    write_atomic(tmp_path / "a", b"secret 2")
    assert {one.name for one in tmp_path.iterdir()} == {"a", "victim"}
    assert (tmp_path / "a").read_bytes() == b"secret 2"


def test_a_file_that_comes_in_parts_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with contextlib.suppress(ValueError), replacing(path) as descriptor:
        os.write(descriptor, b"half")
        raise ValueError
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"a": b"old"}
    with replacing(path) as descriptor:
        os.write(descriptor, b"ne")
        os.write(descriptor, b"w")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_directory_is_locked_once(tmp_path: Path) -> None:
    with locked_directory(tmp_path), pytest.raises(LockHeldError), locked_directory(tmp_path):
        pass
    with locked_directory(tmp_path):
        assert list(tmp_path.iterdir()) == []


def write_five_times(path: Path, text: bytes) -> None:
    for _ in range(5):
        write_atomic(path, text)


def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "a"
    texts = [bytes([65 + n]) * 20_000 for n in range(8)]
    threads = [threading.Thread(target=write_five_times, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_json_is_written_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, None]}


def test_quarantine_keeps_earlier_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    places = []
    for number in range(12):
        path.write_text(str(number))
        places.append(quarantine(path))
        assert not path.exists()
    assert places[0] == tmp_path / "a.json.corrupt"
    assert places[0].read_text() == "0"
    assert len(set(places)) == 10
    assert places[-1].read_text() == "11"


def test_removal_of_what_is_not_there(tmp_path: Path) -> None:
    remove_durably(tmp_path / "gone")
    (tmp_path / "here").touch()
    remove_durably(tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_a_second_holder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        LockFile(path),
        pytest.raises(LockHeldError, match=f"cannot lock {path}: process {os.getpid()} has it") as caught,
    ):
        LockFile(path).acquire()
    assert caught.value.pid == os.getpid()
    with LockFile(path):
        pass


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import time; from daemonkit.files import *; "
        f"LockFile(Path({str(path)!r})).acquire(); print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockHeldError, match=f"process {holder.pid} "):
            LockFile(path).acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        LockFile(path).acquire()
