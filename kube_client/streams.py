"""The watches that are open, and when each server told of a change last.  I/O: reads lines that come.

Before: `kube_client.client` opens one.  Next: `kube_client.follow` reads it, `kube_client.pulse` looks for silence.
"""

from __future__ import annotations

import asyncio

import aiohttp


class Stream:
    """The lines of one answer, whatever comes of `server`."""

    def __init__(self, server: str, content: aiohttp.StreamReader | asyncio.StreamReader) -> None:
        self.server = server
        self.content = content
        self.news_s = 0.0
        """When it told of a change last, or was opened; time of the event loop."""
        self.tell_news()

    async def readline(self) -> bytes:
        """b"" at the end."""
        return await self.content.readline()

    def tell_news(self) -> None:
        """What came is news: a server that has lost its etcd goes on with bookmarks, but has none."""
        self.news_s = asyncio.get_running_loop().time()


class Streams:
    """Those of one client."""

    def __init__(self) -> None:
        self._open: set[Stream] = set()

    def add(self, stream: Stream) -> None:
        """It is open now."""
        self._open.add(stream)

    def discard(self, stream: Stream) -> None:
        """It is not open any more."""
        self._open.discard(stream)

    def end(self, server: str, cause: str) -> None:
        """Whoever reads from this server gets an error."""
        for stream in self._open:
            if stream.server == server:
                stream.content.set_exception(aiohttp.ClientConnectionError(cause))

    def news_s(self) -> dict[str, float]:
        """The latest news of each server that a stream comes from."""
        found: dict[str, float] = {}
        for stream in self._open:
            found[stream.server] = max(stream.news_s, found.get(stream.server, stream.news_s))
        return found
