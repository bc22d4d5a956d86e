"""The messages of containerd's own services: its events, for containerd 1.6, which has no GetContainerEvents, and its
tasks and containers, for what the CRI has lost sight of. Pure; made on first use.

Before this come `events` and `containerd_strays`, which make the calls; after it nothing. The published stubs of these
services are too old for protobuf 4 and later, and a handful of fields is all we use, so the messages are described
here. Unknown fields are skipped. Source: github.com/containerd/containerd api/services/events/v1/events.proto,
api/services/tasks/v1/tasks.proto, api/services/containers/v1/containers.proto, api/events/task.proto, container.proto.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

SUBSCRIBE_PATH = "/containerd.services.events.v1.Events/Subscribe"
TASKS_PATH = "/containerd.services.tasks.v1.Tasks"
CONTAINERS_PATH = "/containerd.services.containers.v1.Containers"
METADATA = (("containerd-namespace", "k8s.io"),)

# Topics that stand for a change of a container; exec'd processes share /tasks/exit and are told apart by their id.
_TOPICS = ("/tasks/start", "/tasks/exit", "/tasks/oom", "/containers/create", "/containers/delete")

# The messages as a serialized FileDescriptorProto, as generated stubs hold them: writing them out with descriptor_pb2
# would cost 3 MB of resident memory. tests/loopback/cri_client/test_events.py spells them and compares. Every event of
# our topics has the container's id as field 1.
FILE = (
    b"\n\x1elongshore/containerd_api.proto\x12\tlongshore"
    b'"#\n\x10SubscribeRequest\x12\x0f\n\x07filters\x18\x01 \x03(\t'
    b'"+\n\x08AnyEvent\x12\x10\n\x08type_url\x18\x01 \x01(\t\x12\r\n\x05value\x18\x02 \x01(\x0c'
    b'"P\n\x08Envelope\x12\x11\n\tnamespace\x18\x02 \x01(\t\x12\r\n\x05topic\x18\x03 \x01(\t'
    b'\x12"\n\x05event\x18\x04 \x01(\x0b2\x13.longshore.AnyEvent'
    b'",\n\x08TaskExit\x12\x14\n\x0ccontainer_id\x18\x01 \x01(\t\x12\n\n\x02id\x18\x02 \x01(\t'
    b'""\n\nOtherEvent\x12\x14\n\x0ccontainer_id\x18\x01 \x01(\t'
    b'"1\n\tIdRequest\x12\x14\n\x0ccontainer_id\x18\x01 \x01(\t\x12\x0e\n\x06signal\x18\x03 \x01(\r'
    b"b\x06proto3"
)


def subscribe_request() -> bytes:
    """Encode the request: only our namespace, only the topics we read."""
    filters = [f'namespace==k8s.io,topic=="{topic}"' for topic in _TOPICS]
    return _messages()["SubscribeRequest"](filters=filters).SerializeToString()  # type: ignore[no-any-return] # dynamic


def id_request(container_id: str, signal: int = 0) -> bytes:
    """Encode the request of a task's Get, Kill (with `signal`), Wait or Delete, or of a container's Delete: in all of
    them the first field is the id.
    """
    return _messages()["IdRequest"](container_id=container_id, signal=signal).SerializeToString()  # type: ignore[no-any-return] # dynamic


def id_of(request: bytes) -> str:
    """Read the container id of such a request."""
    return str(_messages()["IdRequest"].FromString(request).container_id)


def decode_event(data: bytes) -> tuple[str, str] | None:
    """Decode an envelope into (topic, container id); None for the end of an exec'd process or what is not readable."""
    messages = _messages()
    try:
        envelope = messages["Envelope"].FromString(data)
        if envelope.topic not in _TOPICS:
            return None
        kind = "TaskExit" if envelope.topic == "/tasks/exit" else "OtherEvent"
        event = messages[kind].FromString(envelope.event.value)
    except DecodeError:
        return None
    if kind == "TaskExit" and event.id != event.container_id:
        return None
    return envelope.topic, event.container_id


@cache
def _messages() -> dict[str, Any]:
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(FILE)
    names = ("SubscribeRequest", "Envelope", "TaskExit", "OtherEvent", "IdRequest")
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"longshore.{name}")) for name in names}
