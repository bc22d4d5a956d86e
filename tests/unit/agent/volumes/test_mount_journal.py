"""The journal of a pod's mounts, cut off by a crash at any byte."""

from __future__ import annotations

from pathlib import Path

from agent.volumes.mount_journal import note_mounts, own_mounts


def test_a_line_that_was_cut_off_is_no_mount_and_spoils_no_other(tmp_path: Path) -> None:
    first, second, third = (str(tmp_path / name) for name in ("volumes a\n", "b", "c"))
    journal = tmp_path / "mounts"
    note_mounts(str(tmp_path), [first, second])
    whole = journal.read_bytes()
    assert own_mounts(str(tmp_path)) == {first, second}
    for cut in range(len(whole)):
        journal.write_bytes(whole[:cut])
        left = own_mounts(str(tmp_path))
        assert left <= {first, second}, cut
        note_mounts(str(tmp_path), [third])
        assert {*left, third} <= own_mounts(str(tmp_path)) <= {first, second, third}, cut
    assert journal.stat().st_mode & 0o777 == 0o600


def test_without_a_journal_nothing_is_ours(tmp_path: Path) -> None:
    assert own_mounts(str(tmp_path)) == frozenset()
