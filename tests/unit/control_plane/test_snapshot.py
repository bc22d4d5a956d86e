"""Snapshots of etcd that may be restored, and those that may not."""

from __future__ import annotations

import struct

import pytest

from control_plane.bolt import Bolt, BoltError
from control_plane.errors import ControlPlaneError
from control_plane.snapshot import read_snapshot, version_problem
from tests.unit.control_plane.bolt_files import LEAF, SIZE, branch, database, fnv1a, meta, page, revision, with_digest

AUTHORITY = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEYS = [revision(number) for number in (2, 5, 9)]
DATA = database(KEYS, values={KEYS[1]: b"...ca.crt..." + AUTHORITY})


def test_what_a_snapshot_holds() -> None:
    found = read_snapshot(with_digest(DATA), AUTHORITY)
    assert (found.revision, found.keys, found.size, found.version) == (9, 3, len(DATA), "3.6")
    assert found.of_cluster
    assert read_snapshot(with_digest(DATA), AUTHORITY.replace(b"MIIB", b"MIIC")).of_cluster is False
    assert read_snapshot(with_digest(DATA), None).of_cluster is None
    assert read_snapshot(with_digest(database(KEYS, version="")), AUTHORITY).version == "3.5"


def test_the_newer_meta_page_counts_and_one_that_is_damaged_does_not() -> None:
    assert [key for key, _ in Bolt(DATA).items(Bolt(DATA).bucket(b"key") or 0)] == KEYS
    torn = meta(1, 99, 8)[:-1] + b"x"
    assert Bolt(DATA[:SIZE] + torn.ljust(SIZE, b"\0") + DATA[2 * SIZE :]).bucket(b"key") is not None
    with pytest.raises(BoltError, match=r"ends too early|neither branch nor leaf|says that it is page"):
        Bolt(DATA[:SIZE] + meta(1, 99, 8).ljust(SIZE, b"\0") + DATA[2 * SIZE :]).bucket(b"key")


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 33, 512, 512 + 32, SIZE, SIZE + 32, len(DATA), len(DATA) + 31])
def test_a_file_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(ControlPlaneError, match=r"it is cut off|it is damaged"):
        read_snapshot(with_digest(DATA)[:cut], AUTHORITY)


@pytest.mark.parametrize("place", [0, 17, 5 * SIZE + 40, len(DATA) - 1, len(DATA) + 3])
def test_a_byte_that_has_changed_is_noticed(place: int) -> None:
    data = bytearray(with_digest(DATA))
    data[place] ^= 1
    with pytest.raises(ControlPlaneError, match="it is damaged"):
        read_snapshot(bytes(data), AUTHORITY)


def test_what_is_no_database_of_etcd_is_refused() -> None:
    with pytest.raises(ControlPlaneError, match="does not begin as an etcd database does"):
        read_snapshot(with_digest(b"x" * 4096), AUTHORITY)
    with pytest.raises(ControlPlaneError, match="its length is not that of a database"):
        read_snapshot(with_digest(DATA + b"x"), AUTHORITY)
    for bucket in (b"key", b"meta"):
        with pytest.raises(ControlPlaneError, match="no bucket key or no bucket meta"):
            read_snapshot(with_digest(DATA.replace(bucket, bucket.upper())), AUTHORITY)
    entry = with_page(3, page(3, LEAF, [(0, b"key", struct.pack("<QQ", 4, 0))]))
    assert Bolt(entry).bucket(b"key") is None, "an entry of that name is no bucket"
    fields = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, 3, 0, 3, 0, 2, 9, 7)
    small = struct.pack("<QHHI", 0, 4, 0, 0) + fields + struct.pack("<Q", fnv1a(fields))
    with pytest.raises(ControlPlaneError, match="pages of 3 bytes"):
        read_snapshot(with_digest(small.ljust(SIZE, b"\0")), AUTHORITY)


def with_page(number: int, made: bytes) -> bytes:
    """DATA with another page in the place of this one."""
    return DATA[: number * SIZE] + made.ljust(SIZE, b"\0") + DATA[(number + 1) * SIZE :]


def test_what_a_page_names_must_lie_in_the_file_and_be_what_it_says() -> None:
    over = len(DATA) - 5 * SIZE - 16 - 16 - len(KEYS[0]) + 1  # ends one byte behind the file
    leaf = page(5, LEAF, [(0, KEYS[0], b"")])
    long = leaf[:28] + struct.pack("<I", over) + leaf[32:]
    bolt = Bolt(with_page(5, long))
    with pytest.raises(BoltError, match="what is beyond the end of the file"):
        list(bolt.items(bolt.bucket(b"key") or 0))
    bolt = Bolt(with_page(5, page(6, LEAF, [(0, KEYS[0], b"")])))
    with pytest.raises(BoltError, match="page 5 says that it is page 6"):
        bolt.count(bolt.bucket(b"key") or 0)


def test_a_page_that_names_itself_is_no_endless_loop() -> None:
    branch = struct.pack("<QHHI", 4, 1, 1, 0) + struct.pack("<IIQ", 0, 0, 4)
    data = DATA[: 4 * SIZE] + branch.ljust(SIZE, b"\0") + DATA[5 * SIZE :]
    with pytest.raises(BoltError, match="a branch that leads to itself"):
        Bolt(data).count(Bolt(data).bucket(b"key") or 0)


def test_branches_that_share_their_children_are_not_walked_for_ever() -> None:
    """60 pages, each with the next one twice: 2 ** 60 ways."""
    first = len(DATA) // SIZE
    chain = [branch(first + index, [first + index + 1] * 2) for index in range(60)]
    last = page(first + 60, LEAF, [])
    data = DATA[: 4 * SIZE] + branch(4, [first]).ljust(SIZE, b"\0") + DATA[5 * SIZE :]
    data += b"".join(one.ljust(SIZE, b"\0") for one in (*chain, last))
    with pytest.raises(BoltError, match="a branch that leads to itself"):
        Bolt(data).count(Bolt(data).bucket(b"key") or 0)


@pytest.mark.parametrize(
    ("version", "image", "said"),
    [
        ("3.6.0", "registry.k8s.io/etcd:3.6.8-0", ""),
        ("", "registry.k8s.io/etcd:3.6.8-0", ""),
        ("3.4.0", "registry.k8s.io/etcd:3.6.8-0", "it is of etcd 3.4, and registry.k8s.io/etcd:3.6.8-0 runs 3.6"),
        ("3.7.0", "registry.k8s.io/etcd:3.6.8-0", "it is of etcd 3.7, and registry.k8s.io/etcd:3.6.8-0 runs 3.6"),
        ("3.6.0", "a.test:5000/etcd:v3.5.21", "it is of etcd 3.6, and a.test:5000/etcd:v3.5.21 runs 3.5"),
        ("3.6.0", f"registry.k8s.io/etcd@sha256:{'0' * 64}", ""),
    ],
)  # fmt: skip
def test_etcd_takes_over_its_own_release_and_the_one_before(version: str, image: str, said: str) -> None:
    assert version_problem(read_snapshot(with_digest(database(KEYS, version)), AUTHORITY), image) == said
