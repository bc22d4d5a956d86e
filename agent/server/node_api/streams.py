"""/exec, /attach, /portForward and /run: commands and ports of pods.  I/O: the runtime, and a tunnel to its streams.

Before: `server` has let the caller through.  Next: `tunnel`.  Whatever is wrong is said before the protocol changes;
of streams there are so many at once and no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web

from agent.server.node_api.at_once import AtOnce
from agent.server.node_api.stream_options import is_upgrade, is_websocket, parse_ports, parse_stream_options
from agent.server.node_api.targets import VerbError, Workers, find_pod, find_running
from agent.server.node_api.tunnel import StreamRefusedError, tunnel
from cri_client.errors import Code, CriError
from cri_client.protocols import Runtime

T = TypeVar("T")
MAX_STREAMS = 1000
_STATUS = {Code.NOT_FOUND: 404, Code.RESOURCE_EXHAUSTED: 429, Code.INVALID_ARGUMENT: 400}


class Streams:
    """The verbs."""

    def __init__(self, runtime: Runtime, workers: Workers, idle_s: float, limit: int = MAX_STREAMS) -> None:
        self._runtime = runtime
        self._workers = workers
        self._idle_s = idle_s
        self.at_once = AtOnce(limit, "streams")

    async def exec(
        self, request: web.BaseRequest, namespace: str, pod: str, container: str, uid: str = ""
    ) -> web.StreamResponse:
        """A command with streams of its own."""
        options = parse_stream_options(request.query)
        command = request.query.getall("command", [])
        if not command or any("\0" in one for one in command):
            raise VerbError(400, "you must specify a command, without zero bytes")
        run = find_running(find_pod(self._workers(), namespace, pod, uid), container)
        return await self._stream(
            request,
            lambda: self._runtime.exec(
                run.id, command, tty=options.tty, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr
            ),
        )

    async def attach(
        self, request: web.BaseRequest, namespace: str, pod: str, container: str, uid: str = ""
    ) -> web.StreamResponse:
        """The streams of the container's own process."""
        options = parse_stream_options(request.query)
        run = find_running(find_pod(self._workers(), namespace, pod, uid), container)
        return await self._stream(
            request,
            lambda: self._runtime.attach(
                run.id, tty=options.tty, stdin=options.stdin, stdout=options.stdout, stderr=options.stderr
            ),
        )

    async def port_forward(
        self, request: web.BaseRequest, namespace: str, pod: str, uid: str = ""
    ) -> web.StreamResponse:
        """Ports of the pod."""
        ports = parse_ports(request.query.getall("port", []), websocket=is_websocket(request.headers))
        seen = find_pod(self._workers(), namespace, pod, uid).seen
        sandbox = seen.current_sandbox if seen is not None else None
        if sandbox is None:
            raise VerbError(500, f'pod "{pod}" has no sandbox that is ready')
        return await self._stream(request, lambda: self._runtime.port_forward(sandbox.id, ports))

    async def run(
        self, request: web.BaseRequest, namespace: str, pod: str, container: str, uid: str = ""
    ) -> web.StreamResponse:
        """A command to its end, and what it has written."""
        command = request.query.get("cmd", "").split(" ")
        if command == [""]:
            raise VerbError(400, "you must specify a command: cmd=")
        run = find_running(find_pod(self._workers(), namespace, pod, uid), container)
        with self.at_once:
            answer = await _of_runtime(self._runtime.exec_sync(run.id, command))
        if answer.exit_code:
            output = (answer.stdout + answer.stderr).decode("utf-8", "replace")
            raise VerbError(500, f"command {command[0]!r} exited with {answer.exit_code}: {output}")
        return web.Response(body=answer.stdout + answer.stderr, content_type="text/plain")

    async def _stream(self, request: web.BaseRequest, ask: Callable[[], Awaitable[str]]) -> web.StreamResponse:
        if not is_upgrade(request.headers):
            raise VerbError(500, "Upgrade request required")
        with self.at_once:
            url = await _of_runtime(ask())
            try:
                return await tunnel(request, url, self._idle_s)
            except StreamRefusedError as error:
                raise VerbError(error.status, str(error)) from None


async def _of_runtime(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except CriError as error:
        raise VerbError(_STATUS.get(error.code, 500), str(error)) from None
