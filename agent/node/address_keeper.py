"""Keeps the node's addresses those that this machine has now. I/O: interfaces, routes, resolver.

Before: `facts` has read them when the agent began. Next: whoever is told of others: the Node, status.hostIP of pods.
As the kubelet, which looks again with every status of its Node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent.node.addresses import AddressError
from agent.node.facts import NodeSettings, read_node_ips

_log = logging.getLogger(__name__)


class AddressKeeper:
    """`run` never ends; `look` is one look."""

    def __init__(
        self,
        settings: Callable[[], NodeSettings],
        present: Callable[[], tuple[str, ...]],
        take: Callable[[tuple[str, ...]], None],
        every_s: Callable[[], float],
    ) -> None:
        """`take` is told where the addresses are others than `present`."""
        self._settings = settings
        self._present = present
        self._take = take
        self._every_s = every_s
        self._problem = ""

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._every_s())
            await self.look()

    async def look(self) -> None:
        """An address that is gone is kept until there is another one, and said once."""
        asked = self._settings()
        try:
            found = await read_node_ips(asked)
            problem = "" if found else "this machine has no address that others could reach"
        except AddressError as error:
            found, problem = (), str(error)
        before = self._present()
        if problem and problem != self._problem and before:
            _log.error("the node stays at %s: %s", ", ".join(before), problem)
        self._problem = problem
        # Where the settings were read again meanwhile, this is the answer to another question.
        if found and found != before and asked is self._settings():
            _log.info("the node's addresses are %s now, no longer %s", ", ".join(found), ", ".join(before) or "none")
            self._take(found)
