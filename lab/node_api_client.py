"""A client of a node's API on port 10250, the same for both that are measured: logs, commands, numbers. I/O.

Before: bench/node_api.py or a test has a node that serves, and is in its network namespace. Next: its figures.
Commands are spoken to over WebSocket, as kubectl does.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

import aiohttp

from lab.machine import LabError

PORT = 10250
_PROTOCOL = "v4.channel.k8s.io"
_STDIN, _STATUS = b"\x00", 3
_READ_BYTES = 1 << 20
_CLOSING_S = 0.1


class NodeClient:
    """An asynchronous context manager; `certificate` is one that the node's API knows, `address` where it is.

    Pods are of the namespace default; what is asked is of their `container`.
    """

    def __init__(self, address: str, certificate: Path, key: Path, *, container: str = "main") -> None:
        self._container = container
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        timeout = aiohttp.ClientTimeout(total=600)
        self._session = aiohttp.ClientSession(f"https://{address}:{PORT}", connector=connector, timeout=timeout)

    async def __aenter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    async def __aexit__(self, *found: object) -> None:
        """Every connection ends, also one whose other side says nothing to the end of TLS: its loop is closed next."""
        await self._session.close()
        transports = getattr(asyncio.get_running_loop(), "_transports", {})  # asyncio has no public word for it
        await asyncio.sleep(_CLOSING_S)
        for transport in list(transports.values()):
            transport.abort()
        await asyncio.sleep(_CLOSING_S)

    async def get(self, path: str) -> bytes:
        """The whole answer.  Raises LabError when it is no good one."""
        async with self._session.get(path) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise LabError(f"cannot get {path}: {answer.status} {body[:500]!r}")
            return body

    async def follow(self, pod: str, size: int) -> float:
        """Seconds until a follower of the pod's log has `size` bytes."""
        begun_s, got = time.perf_counter(), 0
        async with self._session.get(f"/containerLogs/default/{pod}/{self._container}?follow=true") as answer:
            while got < size:
                data = await answer.content.read(_READ_BYTES)
                if not data:
                    raise LabError(f"cannot follow {pod}: it ended after {got} of {size} bytes ({answer.status})")
                got += len(data)
        return time.perf_counter() - begun_s

    async def run(self, pod: str, *command: str) -> float:
        """Seconds of a command from its request to its status."""
        begun_s = time.perf_counter()
        async with self._open(pod, command, stdin=False) as socket:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY and message.data[:1] == bytes([_STATUS]):
                    if b'"Success"' not in message.data:
                        raise LabError(f"cannot run {command}: {message.data[1:]!r}")
                    return time.perf_counter() - begun_s
        raise LabError(f"cannot run {command} in {pod}: it ended without a status")

    async def talk(self, pod: str, rounds: int, opened: asyncio.Barrier) -> None:
        """A `cat` that is sent `rounds` lines once everybody has `opened` one, and waits for everybody in the end."""
        async with self._open(pod, ("cat",), stdin=True) as socket:
            await self._round(socket, b"here\n")
            await opened.wait()
            for number in range(rounds):
                await self._round(socket, b"line %d\n" % number)
            await opened.wait()

    async def _round(self, socket: aiohttp.ClientWebSocketResponse[bool], line: bytes) -> None:
        await socket.send_bytes(_STDIN + line)
        back = b""
        while back != line:
            message = await socket.receive(60)
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise LabError(f"cannot talk to a command: {message}")
            back += message.data[1:] if message.data[:1] == b"\x01" else b""

    def _open(self, pod: str, command: tuple[str, ...], *, stdin: bool) -> aiohttp.client._WSRequestContextManager:
        words = "&".join(f"command={quote(one)}" for one in command)
        query = f"{words}&output=1&error=1{'&input=1' if stdin else ''}"
        return self._session.ws_connect(
            f"/exec/default/{pod}/{self._container}?{query}", protocols=[_PROTOCOL], max_msg_size=0
        )
