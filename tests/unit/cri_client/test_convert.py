"""Every message of the CRI has its dataclass with every field, and both say the same."""

import dataclasses
import typing
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import pytest
from cri_api.v1 import api_pb2
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cri_client import types as cri
from cri_client.convert import ConvertError, from_bytes, rpcs, to_bytes, to_proto

MESSAGES = sorted(api_pb2.DESCRIPTOR.message_types_by_name)
ENUMS = {
    **api_pb2.DESCRIPTOR.enum_types_by_name,
    **api_pb2.DESCRIPTOR.message_types_by_name["SecurityProfile"].enum_types_by_name,
}

# A small alphabet: building the table of all characters takes seconds.
TEXT = st.text("a é\x00\u4e00\U0001f600", max_size=4)


def field_values(hint: Any, depth: int, field: FieldDescriptor) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return st.lists(field_values(arguments[0], depth, field), max_size=2).map(tuple)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(TEXT, TEXT, max_size=2)
    if arguments:
        return st.none() if depth == 0 else st.none() | messages(arguments[0], depth - 1)
    if dataclasses.is_dataclass(hint):
        kind = typing.cast("type[Any]", hint)
        return st.just(kind()) if depth == 0 else messages(kind, depth - 1)
    if issubclass(hint, IntEnum):
        return st.sampled_from(list(hint))
    if hint is bool:
        return st.booleans()
    if hint is int:
        return {
            FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
            FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
            FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
            FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
        }[field.type]
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        str: TEXT,
        bytes: st.binary(max_size=5),
        float: st.floats(allow_nan=False),
    }
    return by_type[hint]


def messages(kind: type[Any], depth: int = 2) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = api_pb2.DESCRIPTOR.message_types_by_name[kind.__name__].fields_by_name
    return st.builds(kind, **{name: field_values(hint, depth, fields[name]) for name, hint in hints.items()})


@pytest.mark.parametrize("name", MESSAGES)
def test_every_field_of_the_proto_is_there(name: str) -> None:
    kind = getattr(cri, name)
    described = [field.name for field in api_pb2.DESCRIPTOR.message_types_by_name[name].fields]
    assert [field.name for field in dataclasses.fields(kind)] == described


@pytest.mark.parametrize("name", sorted(ENUMS))
def test_every_value_of_an_enum_is_there(name: str) -> None:
    described = {value.name: value.number for value in ENUMS[name].values}
    assert {member.name: int(member) for member in getattr(cri, name)} == described


@pytest.mark.parametrize("name", MESSAGES)
def test_defaults_are_the_protos_zero_values(name: str) -> None:
    kind = getattr(cri, name)
    assert to_bytes(kind()) == b""
    assert from_bytes(kind, b"") == kind()


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_comes_back_as_it_went(name: str) -> None:
    kind = getattr(cri, name)

    @settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(messages(kind))
    def round_trip(message: Any) -> None:
        data = to_bytes(message)
        assert from_bytes(kind, data) == message
        assert getattr(api_pb2, name).FromString(data) == to_proto(message)

    round_trip()


def test_a_present_empty_message_is_not_an_absent_one() -> None:
    present = cri.LinuxContainerConfig(
        security_context=cri.LinuxContainerSecurityContext(run_as_user=cri.Int64Value(0))
    )
    assert from_bytes(cri.LinuxContainerConfig, to_bytes(present)) == present
    assert from_bytes(cri.LinuxContainerConfig, b"").security_context is None


def test_a_number_that_no_enum_knows_is_kept() -> None:
    data = to_bytes(cri.Container(state=cri.ContainerState.CONTAINER_UNKNOWN)).replace(b"\x30\x03", b"\x30\x63")
    container = from_bytes(cri.Container, data)
    assert int(container.state) == 0x63
    assert container.state.name == "UNRECOGNIZED_99"
    assert to_bytes(container) == data


@pytest.mark.parametrize(
    ("message", "where"),
    [
        (cri.PortMapping(container_port=2**31), "container_port: "),
        (cri.ContainerConfig(metadata=cri.ContainerMetadata(name=5)), "metadata.name: "),  # type: ignore[arg-type] # on purpose
        (cri.PodSandboxConfig(labels={"a": None}), "labels: "),  # type: ignore[dict-item] # on purpose
        (cri.KeyValue(value="\ud800"), "value: "),
        (cri.ContainerConfig(command=("a", 1)), "command: "),  # type: ignore[arg-type] # on purpose
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_field(message: object, where: str) -> None:
    with pytest.raises(ConvertError) as caught:
        to_bytes(message)
    assert str(caught.value).startswith(where)


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(ConvertError, match="cannot read Container"):
        from_bytes(cri.Container, b"\xff\xff\xff")


def test_all_35_methods_are_known() -> None:
    services = api_pb2.DESCRIPTOR.services_by_name
    assert set(rpcs()) == {m.name for service in services.values() for m in service.methods}
    assert len(rpcs()) == 35
    assert rpcs()["StopContainer"].path == "/runtime.v1.RuntimeService/StopContainer"
    assert [rpc.name for rpc in rpcs().values() if rpc.server_streaming] == ["GetContainerEvents"]
