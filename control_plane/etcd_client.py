"""Asks the etcd of this machine for a snapshot, with the certificates of `pki`.  I/O: gRPC, one file.

Before: `cli.etcd`.  Next: `snapshot` reads what was saved.  The API server is not needed.  Source: etcd API reference,
service Maintenance, rpc Snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from control_plane.errors import ControlPlaneError
from daemonkit.files import replacing

T = TypeVar("T")
_SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"
_NAME = "healthcheck-client"
_SILENCE_S = 60.0


def save_snapshot(server: str, pki: Path, file: Path, check: Callable[[int], T]) -> T:
    """Write etcd's snapshot to the file, mode 0600, whole or not at all; `server` is host:port.  What `check` says of
    its descriptor; where that raises, the file stays as it was.

    Raises ControlPlaneError.
    """
    try:
        with replacing(file) as descriptor:
            with open(descriptor, "wb", closefd=False) as output:
                output.writelines(snapshot_parts(server, pki))
            return check(descriptor)
    except OSError as error:
        raise ControlPlaneError(f"cannot write {file}: {error.strerror}; nothing was changed") from None


def open_channel(server: str, pki: Path) -> Any:
    """A gRPC channel, to be used in a `with` block; connects when it is used.  Raises ControlPlaneError."""
    import grpc  # late: 10 MB

    try:
        pair = [(pki / "etcd" / name).read_bytes() for name in ("ca.crt", f"{_NAME}.key", f"{_NAME}.crt")]
    except OSError as error:
        raise ControlPlaneError(f"cannot read {error.filename}: {error.strerror}") from None
    options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    return grpc.secure_channel(server, grpc.ssl_channel_credentials(*pair), options=options)


def snapshot_parts(server: str, pki: Path) -> Iterator[bytes]:
    """The bytes of a snapshot as they come.  Raises ControlPlaneError."""
    import grpc  # late: 10 MB

    received = _received()
    with open_channel(server, pki) as channel:
        call = channel.unary_stream(_SNAPSHOT, lambda _: b"", received.FromString)
        try:
            for answer in call(None, timeout=_SILENCE_S * 10):
                yield answer.blob
        except grpc.RpcError as error:
            said = error.details() if hasattr(error, "details") else error
            raise ControlPlaneError(f"cannot get a snapshot from etcd at {server}: {said}") from None


@cache
def _received() -> Any:
    """The message SnapshotResponse, of which only the field `blob` counts here."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="longshore/etcd.proto", package="longshore", syntax="proto3")
    field = file.message_type.add(name="SnapshotResponse").field.add(name="blob", number=3)
    field.type, field.label = field.TYPE_BYTES, field.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("longshore.SnapshotResponse"))
