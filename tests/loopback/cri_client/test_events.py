"""The event stream never ends, says when something may have been missed, and survives what it cannot read."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from google.protobuf import any_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from cri_client import containerd_api
from cri_client import types as cri
from cri_client.channel import Channel
from cri_client.containerd_api import decode_event, subscribe_request
from cri_client.errors import Unavailable
from cri_client.events import (
    AnyEvent,
    Disconnected,
    EventKind,
    Reconnected,
    RuntimeEvent,
    _lacks_container_events,
    runtime_events,
)
from cri_client.fake import FakeRuntime
from cri_client.runtime import RuntimeClient
from tests.loopback.cri_client.pods import started

Events = AsyncGenerator[AnyEvent, None]


@pytest.mark.looptime
async def test_events_of_a_container(fake: FakeRuntime) -> None:
    async with aclosing(runtime_events(fake)) as events:
        assert await anext(events) == Reconnected("cri")
        sandbox, container = await started(fake)
        fake.exit_container(container, 0)
        await fake.remove_pod_sandbox(sandbox)
        assert [await anext(events) for _ in range(8)] == [
            RuntimeEvent(sandbox, sandbox, EventKind.CREATED),
            RuntimeEvent(sandbox, sandbox, EventKind.STARTED),
            RuntimeEvent(container, sandbox, EventKind.CREATED),
            RuntimeEvent(container, sandbox, EventKind.STARTED),
            RuntimeEvent(container, sandbox, EventKind.STOPPED),
            RuntimeEvent(sandbox, sandbox, EventKind.STOPPED),
            RuntimeEvent(container, sandbox, EventKind.DELETED),
            RuntimeEvent(sandbox, sandbox, EventKind.DELETED),
        ]
    assert not fake.listeners, "a closed stream listens no more"


@pytest.mark.looptime
async def test_every_new_connection_is_announced(fake: FakeRuntime) -> None:
    async with aclosing(runtime_events(fake)) as events:
        for _ in range(3):
            assert await anext(events) == Reconnected("cri")
            fake.restart()
            assert await anext(events) == Disconnected()


@pytest.mark.looptime
async def test_errors_of_the_runtime_never_end_it(fake: FakeRuntime) -> None:
    fake.faults.fail_next("version", Unavailable("Version", "gone"), times=20)
    async with aclosing(runtime_events(fake)) as events:
        assert await anext(events) == Reconnected("cri")
    assert not fake.listeners


@pytest.mark.looptime
async def test_a_runtime_without_events_only_asks_for_a_relist_now_and_then(fake: FakeRuntime) -> None:
    fake.supports_events = False
    async with aclosing(runtime_events(fake)) as events:
        assert await anext(events) == Reconnected("none")
        assert await anext(events) == Reconnected("none")
        fake.supports_events = True
        assert await anext(events) == Reconnected("cri")


@pytest.mark.parametrize(
    ("name", "version", "lacks"),
    [
        ("containerd", "1.6.20~ds1", True),
        ("containerd", "v1.6.9", True),
        ("containerd", "1.7.0", False),
        ("containerd", "2.2.1+unknown", False),
        ("containerd", "unknown", False),
        ("cri-o", "1.6.0", False),
    ],
)
def test_which_versions_are_not_asked(name: str, version: str, lacks: bool) -> None:
    assert _lacks_container_events(cri.VersionResponse("0.1.0", name, version, "v1")) is lacks


async def test_events_cross_the_socket(fake: FakeRuntime, channel: Channel) -> None:
    async with aclosing(runtime_events(RuntimeClient(channel), channel)) as events:
        assert await anext(events) == Reconnected("cri")
        sandbox, container = await started(fake)
        found = [await anext(events) for _ in range(4)]
        assert found[-1] == RuntimeEvent(container, sandbox, EventKind.STARTED)


async def test_a_socket_with_neither_service_is_quiet(fake: FakeRuntime, channel: Channel) -> None:
    fake.supports_events = False
    async with aclosing(runtime_events(RuntimeClient(channel), channel)) as events:
        # The refusal of the stream can come after the answer that follows it; then the stream is announced first.
        announced = await anext(events)
        while announced != Reconnected("none"):
            assert isinstance(announced, Reconnected)
            announced = await anext(events)


def text_field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def envelope(topic: str, event: bytes) -> bytes:
    """An envelope as containerd sends it: timestamp, namespace, topic, and the event in an Any without a URL prefix."""
    wrapped = any_pb2.Any(type_url="containerd.events.X", value=event).SerializeToString()
    return (
        text_field(1, b"\x08\x01\x10\xff\x01")
        + text_field(2, b"k8s.io")
        + text_field(3, topic.encode())
        + text_field(4, wrapped)
    )


TIME = text_field(5, b"\x08\xff\xff\xff\xff\x0f\x10\x80\x80\x01")


@pytest.mark.parametrize(
    ("topic", "event", "expected"),
    [
        ("/tasks/start", text_field(1, b"c1") + b"\x10\x05", ("/tasks/start", "c1")),
        (
            "/tasks/exit",
            text_field(1, b"c1") + text_field(2, b"c1") + b"\x18\x05\x20\x03" + TIME,
            ("/tasks/exit", "c1"),
        ),
        ("/tasks/exit", text_field(1, b"c1") + text_field(2, b"exec-1") + TIME, None),
        ("/tasks/oom", text_field(1, b"c1"), ("/tasks/oom", "c1")),
        (
            "/containers/create",
            text_field(1, b"c1") + text_field(2, b"image") + text_field(3, b""),
            ("/containers/create", "c1"),
        ),
        ("/containers/delete", text_field(1, b"c1"), ("/containers/delete", "c1")),
        ("/tasks/exec-started", text_field(1, b"c1"), None),
        ("/snapshot/prepare", text_field(1, b"c1"), None),
        ("/tasks/exit", b"\xff\xff", None),
    ],
)
def test_containerds_own_events(topic: str, event: bytes, expected: tuple[str, str] | None) -> None:
    assert decode_event(envelope(topic, event)) == expected


@settings(max_examples=100, deadline=None, database=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_event_are_skipped(data: bytes) -> None:
    decode_event(data)
    decode_event(envelope("/tasks/exit", data[:30]))


def test_the_subscription_names_only_our_namespace() -> None:
    request: Any = subscribe_request()
    assert request.count(b"namespace==k8s.io,topic==") == 5
    assert containerd_api.METADATA == (("containerd-namespace", "k8s.io"),)


def test_the_serialized_messages_are_these() -> None:
    from google.protobuf import descriptor_pb2

    types = descriptor_pb2.FieldDescriptorProto
    text, data, number = types.TYPE_STRING, types.TYPE_BYTES, types.TYPE_UINT32
    file = descriptor_pb2.FileDescriptorProto(
        name="longshore/containerd_api.proto", package="longshore", syntax="proto3"
    )

    def add(message: str, **fields: tuple[int, int | str]) -> None:
        kind = file.message_type.add(name=message)
        for name, (index, of) in fields.items():
            field = kind.field.add(name=name, number=index, label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL)
            if isinstance(of, str):
                field.type, field.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, of
            else:
                field.type = of  # type: ignore[assignment] # an enum number

    add("SubscribeRequest", filters=(1, text))
    file.message_type[0].field[0].label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    add("AnyEvent", type_url=(1, text), value=(2, data))
    add("Envelope", namespace=(2, text), topic=(3, text), event=(4, ".longshore.AnyEvent"))
    add("TaskExit", container_id=(1, text), id=(2, text))
    add("OtherEvent", container_id=(1, text))
    add("IdRequest", container_id=(1, text), signal=(3, number))
    assert descriptor_pb2.FileDescriptorProto.FromString(containerd_api.FILE) == file
