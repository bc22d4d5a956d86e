"""A gate between agent and containerd: passes every gRPC call on as bytes, counts the mutating ones, and can break
any of them. I/O.

Before: an agent connects to `endpoint`. Next: the real containerd's socket. Tests of crash safety kill the agent from
`before` and `after`, so production code needs no hook; "restart changes nothing" is `gate.mutating() == []`.

The gate has threads of its own (grpc's synchronous server): it works beside any event loop and while a test blocks.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

MUTATING = frozenset(
    {
        "RunPodSandbox",
        "StopPodSandbox",
        "RemovePodSandbox",
        "CreateContainer",
        "StartContainer",
        "StopContainer",
        "RemoveContainer",
        "PullImage",
        "RemoveImage",
        "UpdateContainerResources",
    }
)
_STREAMS = frozenset(
    {"/runtime.v1.RuntimeService/GetContainerEvents", "/containerd.services.events.v1.Events/Subscribe"}
)
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A runtime that was restarted is there for the next call.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
# Every open event stream holds a worker for its whole life.
_WORKERS = 128
_AGAIN_S = 60.0
_NO_DEADLINE_S = 1e9  # what grpc says is left of a call without a deadline is more

Metadata = tuple[tuple[str, str | bytes], ...]
if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[bytes, bytes]
else:
    _Handler = grpc.GenericRpcHandler  # generic for type checkers only

Hook = Callable[[int, str], object]


@dataclass
class GateCall:
    """One call that came through. `number` counts the mutating ones from 1 (0: it changes nothing); `code` is None
    while it runs.
    """

    method: str
    request: bytes
    started_s: float
    number: int = 0
    forwarded: bool = False
    code: str | None = None
    ended_s: float | None = None


@dataclass
class _Fault:
    method: str
    remaining: int
    delay_s: float = 0.0
    code: grpc.StatusCode | None = None
    details: str = ""
    after: bool = False
    release: threading.Event | None = None
    again: bool = False


@dataclass
class _Journal:
    lock: threading.RLock = field(default_factory=threading.RLock)
    calls: list[GateCall] = field(default_factory=list)
    count: int = 0
    faults: list[_Fault] = field(default_factory=list)


class CriGate:
    """A transparent proxy from `socket` to `upstream` (both unix socket paths).

    `before(n, method)` runs before the n-th mutating call is forwarded; when it returns something truthy the call is
    never forwarded and the caller sees UNAVAILABLE. `after(n, method)` runs when the runtime has answered and the
    caller has not yet seen the answer. Both run one at a time, in a thread of the gate, and hold that call (and other
    mutating ones) up while they run.
    """

    def __init__(self, upstream: Path, socket: Path) -> None:
        self.socket = socket
        self.endpoint = f"unix://{socket}"
        self.before: Hook | None = None
        self.after: Hook | None = None
        self._upstream = f"unix://{upstream}"
        self._journal = _Journal()
        self._server: grpc.Server | None = None
        self._channel: grpc.Channel | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Listen."""
        self.socket.unlink(missing_ok=True)
        self._channel = grpc.insecure_channel(self._upstream, options=_OPTIONS)
        server = grpc.server(ThreadPoolExecutor(_WORKERS), options=_OPTIONS)
        server.add_generic_rpc_handlers((_Forwarder(self),))
        server.add_insecure_port(self.endpoint)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Close all connections and forget the socket; the record of calls stays readable."""
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self.socket.unlink(missing_ok=True)

    @property
    def calls(self) -> list[GateCall]:
        """Every call since the start or the last `reset`, in the order they came."""
        with self._journal.lock:
            return list(self._journal.calls)

    def mutating(self) -> list[GateCall]:
        """The calls that change the runtime, in order."""
        return [call for call in self.calls if call.number]

    def counts(self) -> Counter[str]:
        """How often each method was called."""
        return Counter(call.method for call in self.calls)

    def reset(self) -> None:
        """Forget the record, the count, the hooks and the faults."""
        with self._journal.lock:
            self._journal.calls.clear()
            self._journal.faults.clear()
            self._journal.count = 0
            self.before = self.after = None

    def fail(
        self,
        method: str,
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        details: str = "injected by the lab",
        *,
        times: int = 1,
        after: bool = False,
    ) -> None:
        """Answer the next `times` calls of `method` with `code`; with `after` the runtime does the work and only its
        answer is lost.
        """
        with self._journal.lock:
            self._journal.faults.append(_Fault(method, times, code=code, details=details, after=after))

    def delay(self, method: str, delay_s: float, *, times: int = 1, after: bool = False) -> None:
        """Hold the next `times` calls of `method` up before forwarding, or with `after` hold up their answers."""
        with self._journal.lock:
            self._journal.faults.append(_Fault(method, times, delay_s=delay_s, after=after))

    def hang(self, method: str, *, times: int = 1) -> threading.Event:
        """Hold the next `times` calls of `method` up before forwarding until the event that is returned is set."""
        release = threading.Event()
        with self._journal.lock:
            self._journal.faults.append(_Fault(method, times, release=release))
        return release

    def duplicate(self, method: str, *, times: int = 1) -> None:
        """Pass the next `times` calls of `method` on twice; the caller sees the second answer."""
        with self._journal.lock:
            self._journal.faults.append(_Fault(method, times, again=True))

    def forward(self, path: str, metadata: Metadata, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Pass one unary call on; called by the server's threads."""
        call = self._begin(path, request)
        faults = self._take_faults(call.method)
        try:
            _inject([fault for fault in faults if not fault.after], call, context)
            if self._run_hook(self.before, call):
                _abort(call, context, grpc.StatusCode.UNAVAILABLE, "dropped by the lab before it was forwarded")
            if any(fault.again for fault in faults):
                self._ask_once_more(path, metadata, request)
            answer = self._ask(path, metadata, request, call, context)
            self._run_hook(self.after, call)
            _inject([fault for fault in faults if fault.after], call, context)
            call.code = call.code or "OK"
            return answer
        finally:
            call.ended_s = time.monotonic()

    def forward_stream(
        self, path: str, metadata: Metadata, request: bytes, context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """Pass a server stream on, message by message, until either side ends it."""
        call = self._begin(path, request)
        _inject(self._take_faults(call.method), call, context)
        assert self._channel is not None
        stream = self._channel.unary_stream(path, bytes, bytes)(request, metadata=metadata)
        context.add_callback(stream.cancel)
        call.forwarded = True
        try:
            yield from stream
            call.code = "OK"
        except grpc.RpcError as error:
            _pass_error(error, call, context)
        finally:
            call.ended_s = time.monotonic()

    def _begin(self, path: str, request: bytes) -> GateCall:
        call = GateCall(path.rpartition("/")[2], request, time.monotonic())
        with self._journal.lock:
            if call.method in MUTATING:
                self._journal.count += 1
                call.number = self._journal.count
            self._journal.calls.append(call)
        return call

    def _take_faults(self, method: str) -> list[_Fault]:
        with self._journal.lock:
            due = [fault for fault in self._journal.faults if fault.method == method and fault.remaining > 0]
            for fault in due:
                fault.remaining -= 1
            return due

    def _run_hook(self, hook: Hook | None, call: GateCall) -> object:
        if hook is None or not call.number:
            return None
        with self._journal.lock:
            return hook(call.number, call.method)

    def _ask_once_more(self, path: str, metadata: Metadata, request: bytes) -> None:
        assert self._channel is not None
        with contextlib.suppress(grpc.RpcError):
            self._channel.unary_unary(path, bytes, bytes)(request, timeout=_AGAIN_S, metadata=metadata)

    def _ask(
        self, path: str, metadata: Metadata, request: bytes, call: GateCall, context: grpc.ServicerContext
    ) -> bytes:
        assert self._channel is not None
        send = self._channel.unary_unary(path, bytes, bytes)
        left_s: float | None = context.time_remaining()
        left_s = None if left_s is not None and left_s > _NO_DEADLINE_S else left_s
        pending = send.future(request, timeout=left_s, metadata=metadata)
        # As without the gate: a caller that dies or gives up cancels its call in the runtime.
        context.add_callback(pending.cancel)
        call.forwarded = True
        try:
            answer: bytes = pending.result()
            return answer
        except grpc.RpcError as error:
            self._run_hook(self.after, call)
            _pass_error(error, call, context)
        except grpc.FutureCancelledError:
            _abort(call, context, grpc.StatusCode.CANCELLED, "the caller went away")
        raise AssertionError("abort raises")


class _Forwarder(_Handler):
    def __init__(self, gate: CriGate) -> None:
        self._gate = gate

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        path, metadata = details.method, _own_metadata(details.invocation_metadata)
        if path in _STREAMS:
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: self._gate.forward_stream(path, metadata, request, context)
            )
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._gate.forward(path, metadata, request, context)
        )


def _own_metadata(metadata: Metadata | None) -> Metadata:
    """What the caller itself sent, such as containerd-namespace; the transport's own keys are set anew."""
    return tuple((key, value) for key, value in metadata or () if not key.startswith(("grpc-", ":", "user-agent")))


def _inject(faults: Sequence[_Fault], call: GateCall, context: grpc.ServicerContext) -> None:
    for fault in faults:
        if fault.delay_s:
            time.sleep(fault.delay_s)
        if fault.release is not None:
            fault.release.wait()
        if fault.code is not None:
            _abort(call, context, fault.code, fault.details)


def _abort(call: GateCall, context: grpc.ServicerContext, code: grpc.StatusCode, details: str) -> None:
    call.code = code.name
    context.abort(code, details)


def _pass_error(error: grpc.RpcError, call: GateCall, context: grpc.ServicerContext) -> None:
    assert isinstance(error, grpc.Call)
    if trailing := error.trailing_metadata():
        context.set_trailing_metadata(_own_metadata(trailing))
    _abort(call, context, error.code(), error.details() or "")
