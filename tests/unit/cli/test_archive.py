"""What an archive may not hold, whoever has made it: it is put back as root."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

import msgspec
import pytest

from cli.backups.archive import ArchiveError, Inventory, digest, is_within, parse_archive, render_archive

ABOUT = {
    "format": 1, "longshore": "0.1.0", "layout": 1, "node": "n", "created": "2026-01-01T00:00:00Z",
    "rootDir": "/node/state", "roots": ["/node"],
}  # fmt: skip
PLANE = {"etcdData": "/var/lib/etcd/member", "aside": "/node/aside", "manifests": ["/node/manifests/etcd.yaml"]}
DATA = b"kind: Pod\n"


def entry(path: str, **more: object) -> dict[str, object]:
    return {"path": path, "kind": "file", "mode": 0o600, "uid": 0, "gid": 0, "size": len(DATA),
            "sha256": digest(DATA), **more}  # fmt: skip


def parsed(*entries: dict[str, object], **about: object) -> tuple[Inventory, dict[str, bytes]]:
    inventory = msgspec.convert({**ABOUT, **about, "entries": entries}, Inventory)
    return parse_archive(render_archive(inventory, {one.path: DATA for one in inventory.entries}))


def packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def test_a_sound_one_is_taken() -> None:
    _, contents = parsed(entry("/node/a"), controlPlane=PLANE)
    assert contents == {"/node/a": DATA}


LINK: dict[str, Any] = {"kind": "symlink", "size": 0, "sha256": "", "target": "/etc"}


@pytest.mark.parametrize(
    ("entries", "about", "words"),
    [
        ([entry("/node/a"), entry("/node/a/b")], {}, "/node/a/b lies below /node/a, which is a file"),
        ([entry("/node/a", **LINK), entry("/node/a/b")], {}, "/node/a/b lies below /node/a, which is a symlink"),
        ([entry("/node-2/a")], {}, "/node-2/a is in none of its directories"),
        ([entry("/node/a")], {"controlPlane": {**PLANE, "aside": "/etc/cron.d"}}, "/etc/cron.d is in none of its"),
        ([entry("/node/a")], {"controlPlane": {**PLANE, "manifests": ["/node/../etc/x"]}}, "no absolute path"),
        ([entry("/node/a")], {"manifestDirs": ["/node/../etc"]}, "no absolute path"),
        ([entry("/node/a.before-restore")], {}, "is kept for files of `longshore restore`"),
    ],
)
def test_what_would_lead_out_of_its_directories_is_refused(
    entries: list[dict[str, object]], about: dict[str, object], words: str
) -> None:
    with pytest.raises(ArchiveError, match=words):
        parsed(*entries, **about)


def test_a_member_that_the_inventory_does_not_name_is_refused() -> None:
    inventory = msgspec.json.encode({**ABOUT, "entries": [entry("/node/a")]})
    members = {"longshore-backup.json": inventory, "files/node/a": DATA}
    assert parse_archive(packed(members))[1] == {"/node/a": DATA}
    with pytest.raises(ArchiveError, match="'files/node/b', which its inventory does not name"):
        parse_archive(packed({**members, "files/node/b": DATA}))


def test_within_a_directory_is_not_beside_it() -> None:
    assert [is_within(path, "/node") for path in ("/node", "/node/a", "/node-2", "/nod", "/")] == [
        True,
        True,
        *[False] * 3,
    ]
    assert is_within("/a", "/")
