"""The state directory: one owner, whole files, and nothing in it that can keep the agent from starting."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from agent.state_dir import LAYOUT_VERSION, PodRecord, StateDir, StateDirError, backoff_notes
from daemonkit.files import LockHeldError

RECORD = PodRecord(
    uid="u1", namespace="default", name="web", start_time_s=12.5, boot_id="b", backoff={"web": (20.0, 11.0)}
)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "root")
    made.open()
    return made


def reopened(state: StateDir) -> StateDir:
    state.close()
    again = StateDir(state.root)
    again.open()
    return again


def test_what_is_written_is_read_again(state: StateDir) -> None:
    state.write_record(RECORD)
    state.write_manifests({"/m/web.yaml": b"\x00\xff bytes"})
    again = reopened(state)
    assert again.records_dir.stat().st_mode & 0o777 == 0o700
    assert again.load_records() == {"u1": RECORD}
    assert again.load_manifests() == {"/m/web.yaml": b"\x00\xff bytes"}
    again.remove_record("u1")
    assert again.load_records() == {}
    assert not again.has_record("u1")


def test_a_second_owner_is_refused(state: StateDir) -> None:
    with pytest.raises(LockHeldError, match=r"process [0-9]+ has it"):
        StateDir(state.root).open()


def test_any_damage_to_any_file_costs_only_that_file(state: StateDir) -> None:
    chance = random.Random(7)  # noqa: S311 - repeatable damage, no secret
    for _ in range(40):
        (state.root / "layout.json").write_text('{"version":1}')
        state.write_record(RECORD)
        state.write_manifests({"/m/web.yaml": b"text"})
        files = [state.root / "layout.json", state.root / "manifests.json", *state.records_dir.glob("*.json")]
        victim = chance.choice(files)
        data = bytearray(victim.read_bytes())
        if chance.random() < 0.5:
            del data[chance.randrange(len(data)) :]
        else:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        victim.write_bytes(data)
        if victim.name == "layout.json" and b'"version":' in data and data.strip()[-3:] != b":1}":
            continue  # a flipped digit can make a layout look newer, which is rightly refused
        state = reopened(state)
        state.load_records()
        state.load_manifests()


def test_a_damaged_file_is_kept_aside(state: StateDir) -> None:
    state.write_record(RECORD)
    path = state.records_dir / "u1.json"
    path.write_bytes(b"")
    assert state.load_records() == {}
    assert path.with_name("u1.json.corrupt").exists()
    assert not path.exists()


def test_a_record_under_a_wrong_name_is_not_believed(state: StateDir) -> None:
    state.write_record(RECORD)
    (state.records_dir / "u1.json").rename(state.records_dir / "u2.json")
    assert state.load_records() == {}


def test_a_record_that_the_disk_does_not_give_now_stays_where_it_is(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    state.write_record(RECORD)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", fails)
        assert state.load_records() == {}
    assert state.load_records() == {"u1": RECORD}


def test_a_newer_layout_is_refused_with_what_to_do(state: StateDir) -> None:
    (state.root / "layout.json").write_text(f'{{"version": {LAYOUT_VERSION + 1}}}')
    with pytest.raises(StateDirError, match="run the newer agent"):
        reopened(state)


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(StateDirError, match=r"cannot use .*root \(--root-dir\)"):
        StateDir(tmp_path / "root").open()


def test_after_a_reboot_no_back_off_counts() -> None:
    assert backoff_notes(RECORD, "b") == {"web": (20.0, 11.0)}
    assert backoff_notes(RECORD, "another boot") == {}


def test_what_somebody_else_puts_in_or_takes_away_is_survived(state: StateDir) -> None:
    (state.records_dir / "directory.json").mkdir()
    assert (state.load_records(), state.pod_uids()) == ({}, frozenset())
    (state.records_dir / "directory.json").rmdir()
    state.records_dir.rmdir()
    state.write_record(RECORD)
    assert state.load_records() == {"u1": RECORD}


def test_what_a_killed_agent_had_half_written_is_gone_after_the_next_start(state: StateDir) -> None:
    """The pod may be gone by then: nobody would write its record again."""
    state.write_record(RECORD)
    for path in (state.records_dir / ".u2.json.tmp", state.root / ".manifests.json.tmp"):
        path.write_bytes(b'{"uid": "u')
    again = reopened(state)
    assert [path.name for path in again.records_dir.iterdir()] == ["u1.json"]
    assert not list(again.root.glob(".*"))
