"""Who the members of etcd are, and which come and go.  I/O: gRPC with the certificates of `pki`.

Before: `control_plane.etcd_cluster` decides.  Next: etcd itself, which refuses what would cost its quorum.  Source:
etcd API reference, services Cluster and Maintenance; https://etcd.io/docs/v3.6/learning/design-learner/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from control_plane.errors import ControlPlaneError
from control_plane.etcd_client import open_channel
from control_plane.etcd_cluster import Member

_CLUSTER = "/etcdserverpb.Cluster/"
_STATUS = "/etcdserverpb.Maintenance/Status"
_ANSWER_S = 5.0
_INT, _TEXT, _FLAG, _MESSAGE = "UINT64", "STRING", "BOOL", "MESSAGE"
# Message -> field -> (number, type); a type that ends with + is a list.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Member": {
        "id": (1, _INT),
        "name": (2, _TEXT),
        "peers": (3, f"{_TEXT}+"),
        "clients": (4, f"{_TEXT}+"),
        "learner": (5, _FLAG),
    },
    "AddRequest": {"peers": (1, f"{_TEXT}+"), "learner": (2, _FLAG)},
    "IdRequest": {"id": (1, _INT)},
    "ListRequest": {"linearizable": (1, _FLAG)},
    "AddAnswer": {"members": (3, "Member+")},
    "Answer": {"members": (2, "Member+")},
    "Header": {"member": (2, _INT)},
    "StatusRequest": {},
    "StatusAnswer": {"header": (1, "Header"), "leader": (4, _INT)},
}


class EtcdRefusedError(ControlPlaneError):
    """etcd has answered, and does not want to: perhaps not yet."""


class EtcdMembers:
    """etcd as one of its members shows it; every method raises ControlPlaneError."""

    def __init__(self, server: str, channel: Any) -> None:
        """`server`: host:port, for messages."""
        self._server = server
        self._channel = channel

    def members(self, *, agreed: bool = True) -> tuple[Member, ...]:
        """All; unless `agreed`, as this member knows them, without asking the others."""
        return self._members(f"{_CLUSTER}MemberList", "ListRequest", "Answer", linearizable=agreed)

    def add_learner(self, peer: str) -> tuple[Member, ...]:
        """One that will be reached at this URL; all with it."""
        return self._members(f"{_CLUSTER}MemberAdd", "AddRequest", "AddAnswer", peers=[peer], learner=True)

    def promote(self, member: Member) -> tuple[Member, ...]:
        """A learner votes from now on."""
        return self._members(f"{_CLUSTER}MemberPromote", "IdRequest", "Answer", id=member.identifier)

    def remove(self, member: Member) -> tuple[Member, ...]:
        """It ends by itself."""
        return self._members(f"{_CLUSTER}MemberRemove", "IdRequest", "Answer", id=member.identifier)

    def leader(self) -> int:
        """The leader's identifier, 0 where there is none."""
        return int(self._call(_STATUS, "StatusRequest", "StatusAnswer").leader)

    def _members(self, path: str, request: str, answer: str, **fields: Any) -> tuple[Member, ...]:
        found = self._call(path, request, answer, **fields).members
        return tuple(Member(one.id, one.name, tuple(one.peers), tuple(one.clients), one.learner) for one in found)

    def _call(self, path: str, request: str, answer: str, **fields: Any) -> Any:
        import grpc  # late: 10 MB

        send = self._channel.unary_unary(path, _message(request).SerializeToString, _message(answer).FromString)
        try:
            return send(_message(request)(**fields), timeout=_ANSWER_S)
        except grpc.RpcError as error:
            what = f"cannot {path.rpartition('/')[2]} at etcd {self._server}: {error.details()}"
            away = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            # etcd says UNAVAILABLE too where it is there and its quorum is not.
            raise (ControlPlaneError if away else EtcdRefusedError)(what) from None


@contextmanager
def etcd_at(server: str, pki: Path) -> Iterator[EtcdMembers]:
    """`server`: the URL of a member, or host:port.  Raises ControlPlaneError."""
    server = server.rpartition("//")[2]
    with open_channel(server, pki) as channel:
        yield EtcdMembers(server, channel)


def first_answer(servers: Sequence[str], pki: Path, ask: Callable[[EtcdMembers], Any]) -> Any:
    """What the first of the members answers that answers.  Raises ControlPlaneError, EtcdRefusedError at once."""
    last = ControlPlaneError("cannot ask etcd: no member of it is known")
    for server in servers:
        try:
            with etcd_at(server, pki) as etcd:
                return ask(etcd)
        except EtcdRefusedError:
            raise
        except ControlPlaneError as error:
            last = error
    raise last


def answers(server: str, pki: Path) -> bool:
    """Whether a member works: it answers and knows a leader."""
    try:
        return bool(first_answer([server], pki, EtcdMembers.leader))
    except ControlPlaneError:
        return False


@cache
def _message(name: str) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"longshore.members.{name}"))


@cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(
        name="longshore/etcd_members.proto", package="longshore.members", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            made = message.field.add(name=field, number=number)
            made.label = made.LABEL_REPEATED if kind.endswith("+") else made.LABEL_OPTIONAL
            kind = kind.rstrip("+")
            if kind in _MESSAGES:
                made.type, made.type_name = made.TYPE_MESSAGE, f".longshore.members.{kind}"
            else:
                made.type = getattr(made, f"TYPE_{kind}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
