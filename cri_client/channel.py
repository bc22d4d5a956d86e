"""One gRPC connection to a runtime's socket. I/O.

Before this come `runtime`, `images` and `events`, which make calls on it; after it the runtime itself. Rules:

* Every call has a deadline (None only where a caller asks for none), and is made once: no retry here, and gRPC's own
  are switched off. A deadline that passes does not stop the runtime's work; see `late`.
* Calls fail fast: while nobody is behind the socket they raise Unavailable at once instead of waiting. The channel
  itself stays and connects again within 1.2 s of the runtime's return (back-off 0.1 s to 1 s with 20 % jitter).
* Messages up to 16 MiB, as the kubelet's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from cri_client.convert import ConvertError, from_bytes, rpcs, to_bytes
from cri_client.endpoint import discover_endpoint, explain_endpoint, socket_path
from cri_client.errors import CriError, EndpointError, InvalidArgument, Unavailable, Unimplemented, error_of, from_grpc
from cri_client.operations import Operations
from cri_client.stubs import grpc

__all__ = ["Channel", "check_endpoint", "connect", "discover_endpoint"]

R = TypeVar("R")
MESSAGE_LIMIT_BYTES = 16 * 1024 * 1024
DEFAULT_TIMEOUT_S = 120.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # A socket path is no valid host name; Go's runtimes answer to any.
    ("grpc.default_authority", "localhost"),
)


class Channel:
    """A connection made on first use and made again after each loss; close() ends it."""

    def __init__(self, endpoint: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(f"unix://{socket_path(endpoint)}", options=_OPTIONS)
        self._methods: dict[str, Callable[..., Any]] = {}
        self.operations = Operations()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls under way are cancelled."""
        await self._channel.close(None)

    async def call(self, method: str, request: object, response: type[R], deadline_s: float | None) -> R:
        """Make one unary call of the CRI; `method` is its CRI name. CriError or a subclass on any failure."""
        payload = _encode(method, request)
        started_s, failed = time.monotonic(), True
        try:
            data = await self.call_raw(rpcs()[method].path, payload, deadline_s)
            failed = False
        finally:
            self.operations.add(method, time.monotonic() - started_s, failed=failed)
        return _decode(method, response, data)

    async def call_raw(
        self, path: str, payload: bytes, deadline_s: float | None, metadata: tuple[tuple[str, str], ...] = ()
    ) -> bytes:
        """Make one unary call of any service on the socket, bytes in and out."""
        invoke = self._methods.get(path)
        if invoke is None:
            invoke = self._methods[path] = self._channel.unary_unary(path, None, None)
        try:
            return await invoke(payload, timeout=deadline_s, metadata=metadata)  # type: ignore[no-any-return] # bytes without serializers
        except grpc.aio.AioRpcError as error:
            raise self._explained(from_grpc(error, path.rpartition("/")[2])) from None

    def _explained(self, error: CriError) -> CriError:
        """Say what is wrong with the socket where gRPC only says that it could not connect."""
        if isinstance(error, Unavailable) and error.message.startswith("failed to connect"):
            problem = explain_endpoint(self.endpoint)
            if problem is not None:
                return Unavailable(error.method, problem.message)
        return error

    def stream(self, method: str, request: object, response: type[R]) -> Stream[R]:
        """Begin a server-streaming call of the CRI at once, without deadline; ends when the runtime ends it."""
        return self.open_stream(rpcs()[method].path, _encode(method, request), response)

    def open_stream(
        self, path: str, payload: bytes, response: type[R], metadata: tuple[tuple[str, str], ...] = ()
    ) -> Stream[R]:
        """Begin a server-streaming call of any service on the socket; with `response` bytes nothing is decoded."""
        call = self._channel.unary_stream(path, None, None)(payload, metadata=metadata)
        return Stream(call, path.rpartition("/")[2], response)


class Stream(Generic[R]):
    """The messages of a server-streaming call; CriError when it fails. aclose() ends the call."""

    def __init__(self, call: Any, method: str, response: type[R]) -> None:
        self._call = call
        self._method = method
        self._response = response

    @property
    def ended(self) -> bool:
        """Whether the runtime has ended or refused the call (what came before can still be read)."""
        return bool(self._call.done())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        try:
            data = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_grpc(error, self._method) from None
        if data is grpc.aio.EOF:  # type: ignore[attr-defined] # missing in grpc-stubs
            raise StopAsyncIteration
        return data if self._response is bytes else _decode(self._method, self._response, data)

    async def aclose(self) -> None:
        """End the call."""
        self._call.cancel()


def connect(endpoint: str | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> Channel:
    """Make a channel to an endpoint (None: discover it); needs a running event loop, waits for nothing.

    `timeout_s` is the kubelet's runtimeRequestTimeout. Raises EndpointError for an endpoint that cannot be one.
    """
    return Channel(discover_endpoint(endpoint), timeout_s)


async def check_endpoint(channel: Channel, deadline_s: float = 5.0) -> None:
    """Raise EndpointError, saying what to do, unless a runtime that speaks CRI v1 answers."""
    problem = explain_endpoint(channel.endpoint)
    if problem is not None:
        raise problem
    try:
        await channel.call_raw("/runtime.v1.RuntimeService/Version", b"", deadline_s)
    except Unimplemented as error:
        raise EndpointError(channel.endpoint, await _why_no_v1(channel, error, deadline_s)) from error
    except CriError as error:
        raise EndpointError(channel.endpoint, f"{error.message} ({error.code.name})") from error


async def _why_no_v1(channel: Channel, error: CriError, deadline_s: float) -> str:
    try:
        await channel.call_raw("/runtime.v1alpha2.RuntimeService/Version", b"", deadline_s)
    except CriError:
        return (
            f"something answers, but without the CRI ({error.message}); "
            'is the CRI plugin switched off ("disabled_plugins" in containerd\'s config.toml)?'
        )
    return "the runtime serves CRI v1alpha2 only; CRI v1 is needed, so upgrade it (containerd 1.6 or later)"


def _encode(method: str, request: object) -> bytes:
    try:
        return to_bytes(request)
    except ConvertError as error:
        raise InvalidArgument(method, str(error)) from error


def _decode(method: str, response: type[R], data: bytes) -> R:
    try:
        return from_bytes(response, data)
    except ConvertError as error:
        raise error_of(13, method, f"the runtime's answer is no {response.__name__}: {error}") from error
