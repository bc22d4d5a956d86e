"""An API server of real sockets that answers by a script, one entry for each request; the last entry stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from kube_client.config import ApiConfig

Answer = Callable[[asyncio.StreamWriter, str], Awaitable[None]]
"""Gets the head of the request."""


@dataclass
class ScriptedServer:
    """`requests` are the request lines with headers, as they came."""

    script: list[Answer]
    port: int = 0
    requests: list[str] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config(self) -> ApiConfig:
        return ApiConfig(servers=(self.url,))

    @property
    def targets(self) -> list[str]:
        """Method and URL of each request."""
        return [" ".join(request.split("\r\n")[0].split()[:2]) for request in self.requests]

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(30):
            while len(self.requests) < times:
                self.asked.clear()
                await self.asked.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head.decode())
                self.asked.set()
                answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                await answer(writer, head.decode())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*script: Answer) -> AsyncIterator[ScriptedServer]:
    made = ScriptedServer(list(script))
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(made.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


def answer(body: object, status: int = 200, **headers: str) -> Answer:
    """A whole answer; `headers` with underscores for dashes."""
    text = body if isinstance(body, str) else json.dumps(body)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def write(writer: asyncio.StreamWriter, _: str) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n{lines}\r\n{text}".encode())
        await writer.drain()

    return write


def stream(*lines: object, then: str = "close") -> Answer:
    """A watch: its lines, then "close" (a good end), "cut" (none) or "stall" (silence)."""

    async def write(writer: asyncio.StreamWriter, _: str) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in lines:
            text = line if isinstance(line, str) else json.dumps(line) + "\n"
            writer.write(f"{len(text):x}\r\n{text}\r\n".encode())
        await writer.drain()
        if then == "stall":
            await asyncio.sleep(3600)
        if then == "cut":
            writer.close()
            await writer.wait_closed()
            return
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return write


def list_or_watch(whole: Answer, watch: Answer) -> Answer:
    """For tests in which nobody knows how often it is asked."""

    async def write(writer: asyncio.StreamWriter, head: str) -> None:
        await (watch if "watch=true" in head else whole)(writer, head)

    return write


def thing(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"u-{name}", "resourceVersion": str(version)}
    } | more


def listing(version: int, *items: Any, next_page: str = "") -> dict[str, Any]:
    return {
        "kind": "ThingList",
        "metadata": {"resourceVersion": str(version), "continue": next_page},
        "items": [*items],
    }


def event(kind: str, item: Any) -> dict[str, Any]:
    return {"type": kind, "object": item}


def expired() -> dict[str, Any]:
    return {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (9)"}
