"""Leaves an API server that does not work any more while its connections stay open.  I/O.

Before: `kube_client.client` has watches open and several servers.  Next: it reads them from another one.
A watch on which nothing happens looks the same whether there is nothing to tell, the server hangs, or it has lost its
etcd.  HTTP/2 clients ping a connection that was silent for 30 s and give it up after 15 s more; HTTP/1.1 has no ping.
So a server whose watches told of no change for as long is asked for its /readyz, which every user may read, which no
rate limit of the server holds up, and which asks etcd at most once a second or two, for however many clients.
It is left only for one that says that it is ready: when etcd as a whole is away for a moment, nobody goes anywhere.
Source: ReadIdleTimeout and PingTimeout of client-go; the flow schema "probes" and the role system:public-info-viewer.
"""

from __future__ import annotations

import asyncio
import logging

from kube_client.client import KubeClient

_log = logging.getLogger(__name__)
QUIET_S = 30.0
ANSWER_S = 15.0


async def leave_the_silent(client: KubeClient, quiet_s: float = QUIET_S, answer_s: float = ANSWER_S) -> None:
    """For ever: ask each server that a watch comes from, once for each `quiet_s` without a change."""
    asked_s: dict[str, float] = {}
    said: dict[str, str] = {}
    loop = asyncio.get_running_loop()
    while True:
        due_s = {server: max(news_s, asked_s.get(server, news_s)) for server, news_s in client.news_s.items()}
        silent = [server for server, since_s in due_s.items() if loop.time() - since_s >= quiet_s]
        for server in silent:
            asked_s[server] = loop.time()
            cause = await _look_at(client, server, answer_s)
            if cause and cause != said.get(server):
                _log.warning("API server %s is not ready, and no other one is: %s", server, cause)
            said[server] = cause
        if not silent:
            await asyncio.sleep(min(due_s.values(), default=loop.time()) + quiet_s - loop.time())


async def _look_at(client: KubeClient, server: str, answer_s: float) -> str:
    """Leave this server if it cannot work and another one can; why it cannot, where none can."""
    cause = await client.unreadiness(server, answer_s)
    if not cause:
        return ""
    others = [other for other in client.servers if other != server]
    causes = await asyncio.gather(*(client.unreadiness(other, answer_s) for other in others))
    ready = next((other for other, problem in zip(others, causes, strict=True) if not problem), "")
    if not ready:
        return cause
    _log.warning("leaving API server %s for %s: %s", server, ready, cause)
    client.leave(server, ready)
    return ""
