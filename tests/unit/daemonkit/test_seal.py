"""Sealed files on a real disk: whole, cut, changed, moved, of another key."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemonkit.seal import KEY_BYTES, SealError, read_key, read_sealed, write_sealed


def test_what_was_sealed_comes_back_and_does_not_lie_there_in_plain(tmp_path: Path) -> None:
    key, path = read_key(tmp_path / "key"), tmp_path / "a.sealed"
    assert read_sealed(path, key) is None
    write_sealed(path, key, b"a secret")
    first = path.read_bytes()
    assert b"secret" not in first
    assert read_sealed(path, key) == b"a secret"
    write_sealed(path, key, b"a secret")
    assert path.read_bytes() != first, "never the same nonce"
    assert {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()} == {0o600}
    assert read_key(tmp_path / "key") == key


@pytest.mark.parametrize("kept", [0, 4, 8, 15, 30, -1])
def test_one_that_is_cut_off_is_not_opened(tmp_path: Path, kept: int) -> None:
    key, path = bytes(KEY_BYTES), tmp_path / "a.sealed"
    write_sealed(path, key, b"a secret")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SealError):
        read_sealed(path, key)


def test_one_that_was_changed_or_moved_or_is_of_another_key_is_not_opened(tmp_path: Path) -> None:
    key, path = bytes(KEY_BYTES), tmp_path / "a.sealed"
    write_sealed(path, key, b"a secret")
    whole = path.read_bytes()
    with pytest.raises(SealError, match="another key"):
        read_sealed(path, b"k" * KEY_BYTES)
    other = tmp_path / "b.sealed"
    other.write_bytes(whole)
    with pytest.raises(SealError):
        read_sealed(other, key)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(SealError):
            read_sealed(path, key)


def test_a_key_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(SealError, match=f"cannot use key {tmp_path / 'key'}: it has 5 bytes, not 32"):
        read_key(tmp_path / "key")
