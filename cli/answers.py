"""The shape of the local APIs' answers that the commands rely on; other fields may come and go. Pure.

Before: `cli.target` has the bytes. Next: every command indexes what is declared here without looking twice.
"""

from __future__ import annotations

from typing import Any

import msgspec

Json = dict[str, Any]


class _Meta(msgspec.Struct):
    name: str
    namespace: str
    uid: str = ""
    annotations: dict[str, str] | None = None


class _Container(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct):
    containers: list[_Container] | None = None
    initContainers: list[_Container] | None = None  # noqa: N815 # the API's name
    ephemeralContainers: list[_Container] | None = None  # noqa: N815 # the API's name


class _ContainerStatus(msgspec.Struct):
    name: str = ""
    state: dict[str, Json | None] | None = None
    lastState: dict[str, Json | None] | None = None  # noqa: N815 # the API's name


class _Status(msgspec.Struct):
    containerStatuses: list[_ContainerStatus] | None = None  # noqa: N815 # the API's name
    initContainerStatuses: list[_ContainerStatus] | None = None  # noqa: N815 # the API's name
    conditions: list[Json] | None = None


class _Pod(msgspec.Struct):
    metadata: _Meta
    spec: _Spec | None = None
    status: _Status | None = None


class _Entry(msgspec.Struct):
    pod: _Pod
    waiting: list[Json] | None = None


class _Pods(msgspec.Struct):
    pods: list[_Entry]
    errors: list[Json] = []


class _Endpoint(msgspec.Struct):
    ip: str
    port: int


class _Port(msgspec.Struct):
    port: int
    protocol: str
    endpoints: list[_Endpoint] | None = None
    localEndpoints: list[_Endpoint] | None = None  # noqa: N815 # the API's name


class _Service(msgspec.Struct):
    namespace: str
    name: str
    type: str
    ports: list[_Port] | None = None
    selector: dict[str, str] | None = None
    problems: list[Json] = []


class _Services(msgspec.Struct):
    services: list[_Service]
    errors: list[Json] = []


class _AnyStatus(msgspec.Struct):
    runtime: Json | None = None
    shutdown: Json | None = None
    agent: Json | None = None
    waitingFor: list[str] | None = None  # noqa: N815 # the API's name


_SHAPES: dict[str, type] = {"/v1/pods": _Pods, "/v1/services": _Services, "/v1/status": _AnyStatus}


def parse_answer(url: str, body: bytes) -> Json:
    """The JSON object that `url` answered with. Raises ValueError that names the place of what it should not be."""
    try:
        found: Json = msgspec.json.decode(body, type=dict[str, Any])
        msgspec.convert(found, _SHAPES.get(url, Any))
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(str(error)) from None
    return found
