"""Serves a fake runtime on a real unix socket by gRPC, so that the real client and its failures can be tried. I/O.

Before this comes `fake`, after it `channel` in a test. Every method of the CRI is served, from the descriptor, and so
much of containerd's own task service as `containerd_strays` calls (of its containers the fake keeps none).
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from cri_client.containerd_api import TASKS_PATH, id_of
from cri_client.convert import Rpc, from_bytes, rpcs, to_bytes
from cri_client.errors import CriError
from cri_client.stubs import grpc

_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Where the name of a request's field is not the name of the client's parameter, or an answer is more than one field.
_RENAMED = {"timeout": "timeout_s"}
_WHOLE_ANSWERS = frozenset(
    {
        "Version",
        "PodSandboxStatus",
        "ContainerStatus",
        "ExecSync",
        "Status",
        "RuntimeConfig",
        "ImageStatus",
        "ImageFsInfo",
    }
)


@asynccontextmanager
async def serve_fake(fake: object, socket_path: Path) -> AsyncIterator[str]:
    """Serve `fake` (anything with the methods of protocols.Runtime and Images); the endpoint. Replaces a stale
    socket.
    """
    await asyncio.to_thread(socket_path.unlink, missing_ok=True)
    server = grpc.aio.server()
    services: dict[str, dict[str, Any]] = {}
    for rpc in rpcs().values():
        services.setdefault(rpc.path.split("/")[1], {})[rpc.name] = _handler(fake, rpc)
    services[TASKS_PATH.lstrip("/")] = _task_handlers(fake)
    for service, handlers in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix://{socket_path}")
    await server.start()
    try:
        yield f"unix://{socket_path}"
    finally:
        await server.stop(None)


def _handler(fake: object, rpc: Rpc) -> Any:
    method = getattr(fake, snake_case(rpc.name))
    if rpc.server_streaming:

        async def stream(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
            try:
                async with aclosing(method()) as messages:
                    async for message in messages:
                        yield to_bytes(message)
            except CriError as error:
                await _abort(context, error)

        return grpc.unary_stream_rpc_method_handler(stream)

    async def unary(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            result = await method(**_arguments(method, from_bytes(rpc.request, data)))
        except CriError as error:
            await _abort(context, error)
        return to_bytes(_answer(rpc, result))

    return grpc.unary_unary_rpc_method_handler(unary)


def _task_handlers(fake: object) -> dict[str, Any]:
    """Kill ends the task; there is nothing left to wait for or to delete then."""
    end_task: Callable[[str], Awaitable[None]] = getattr(fake, "end_task")  # noqa: B009 - any object will do

    async def kill(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        await end_task(id_of(data))
        return b""

    async def nothing(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return b""

    answers = {"Get": nothing, "Kill": kill, "Wait": nothing, "Delete": nothing}
    return {name: grpc.unary_unary_rpc_method_handler(answer) for name, answer in answers.items()}


def _arguments(method: Callable[..., Any], request: object) -> dict[str, Any]:
    """Spread a request over the parameters of the client's method; fields the method does not take are left out."""
    known = inspect.signature(method).parameters
    names = ((name, _RENAMED.get(name, name)) for name in request.__slots__)  # type: ignore[attr-defined] # dataclass
    return {parameter: getattr(request, name) for name, parameter in names if parameter in known}


def _answer(rpc: Rpc, result: object) -> object:
    """Wrap what the client's method returns into the CRI's response."""
    if rpc.name in _WHOLE_ANSWERS:
        return result
    return rpc.response() if result is None else rpc.response(result)


async def _abort(context: grpc.aio.ServicerContext[bytes, bytes], error: CriError) -> NoReturn:
    await context.abort(_CODES[int(error.code)], error.message)


def snake_case(name: str) -> str:
    """Spell a CRI method as the clients do: RunPodSandbox is run_pod_sandbox."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
