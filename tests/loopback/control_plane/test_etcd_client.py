"""Saves snapshots from a gRPC server with the certificates of a control plane."""

from __future__ import annotations

import contextlib
import datetime
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.errors import ControlPlaneError
from control_plane.etcd_client import save_snapshot
from tests.unit.control_plane.conftest import Plane

PARTS = (b"first", b"", b"x" * 70_000)


def message(blob: bytes) -> bytes:
    """SnapshotResponse: `remaining_bytes` (2) and `blob` (3)."""
    size, rest = b"", len(blob)
    while rest >= 0x80:
        size, rest = size + bytes([rest & 0x7F | 0x80]), rest >> 7
    return b"\x10\x07\x1a" + size + bytes([rest]) + blob


@contextlib.contextmanager
def etcd(plane: Plane, *, breaks_off: bool = False) -> Iterator[str]:
    """Its address, host:port."""

    def snapshot(_: bytes, context: Any) -> Iterator[bytes]:
        yield from map(message, PARTS)
        if breaks_off:
            context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: stopped")

    handlers = {"Snapshot": grpc.unary_stream_rpc_method_handler(snapshot)}
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.Maintenance", handlers),))
    pki = plane.places.pki / "etcd"
    pair = ((pki / "server.key").read_bytes(), (pki / "server.crt").read_bytes())
    authority = (pki / "ca.crt").read_bytes()
    credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def valid(tmp_path: Path) -> Plane:
    """Its certificates are good today."""
    plane = Plane(tmp_path / "plane", now=datetime.datetime.now(datetime.UTC))
    plane.pki.ensure(plane.settings)
    return plane


def test_a_snapshot_is_written_whole(valid: Plane, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    with etcd(valid) as server:
        assert save_snapshot(server, valid.places.pki, file, lambda _: 7) == 7
    assert file.read_bytes() == b"".join(PARTS)
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_cut_off_or_found_wrong_leaves_the_file_as_it_was(valid: Plane, tmp_path: Path) -> None:
    file = tmp_path / "snapshot"
    file.write_bytes(b"yesterday's")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def refuse(_: int) -> None:
        raise ControlPlaneError("it is damaged")

    with etcd(valid, breaks_off=True) as server, pytest.raises(ControlPlaneError, match="etcdserver: stopped"):
        save_snapshot(server, valid.places.pki, file, lambda _: None)
    with etcd(valid) as server, pytest.raises(ControlPlaneError, match="it is damaged"):
        save_snapshot(server, valid.places.pki, file, refuse)
    with pytest.raises(ControlPlaneError, match=r"cannot get a snapshot from etcd at 127\.0\.0\.1:1"):
        save_snapshot("127.0.0.1:1", valid.places.pki, file, lambda _: None)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_where_there_is_no_room_the_file_stays_as_it_was(valid: Plane, tmp_path: Path) -> None:
    """A limit for files is as real as a full disk, and needs no file system of its own."""
    file = tmp_path / "snapshot"
    file.write_bytes(b"yesterday's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with etcd(valid) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, before[1]))
        try:
            with pytest.raises(ControlPlaneError, match=r"cannot write .*: File too large; nothing was changed"):
                save_snapshot(server, valid.places.pki, file, lambda _: None)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"plane", "snapshot"}
    assert file.read_bytes() == b"yesterday's"
