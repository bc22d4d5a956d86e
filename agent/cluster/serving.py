"""The certificate of the node's own API, signed by the cluster (`serverTLSBootstrap`).  I/O.

Before: the Node has addresses.  Next: `agent.server.node_api.tls` serves with the file that `signing` puts in force.
Asked for where there is none, after 70 to 90 % of its life, and when the addresses of the Node are others than those it
names.  Source: kubelet server certificate manager.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from agent.cluster.certificate_files import CertificateFiles
from agent.cluster.certificates import SERVER, renew_at_s, serving_names
from agent.cluster.counts import ClusterCounts
from agent.cluster.own_node import OwnNode
from agent.cluster.protocols import Api
from agent.cluster.signing import BETWEEN_TWO_S, until, until_renewed
from daemonkit.tasks import spawn

_RANDOM = random.SystemRandom()


class ServingCertificate:
    """`tell` is told what is waited for, "" when for nothing; failures are counted."""

    def __init__(self, node: OwnNode, cert_dir: Path, tell: Callable[[str], None], counts: ClusterCounts) -> None:
        self._node = node
        self._tell = tell
        self._counts = counts
        self._files = CertificateFiles(cert_dir, SERVER)
        self._changed = asyncio.Event()
        node.when_changed(self._changed.set)

    async def run(self, api: Api) -> None:
        """For ever."""
        while True:
            names = self._names()
            if not names:
                await self._while_named(names, asyncio.Event().wait())
                continue
            valid = await self._files.validity()
            if valid is not None and valid.names == names:
                await self._while_named(names, until(renew_at_s(valid, _RANDOM.random)))
            if names == self._names():
                renewal = until_renewed(api, self._files, self._node.name, self._tell, names, counts=self._counts)
                await self._while_named(names, renewal)
                await self._while_named(names, asyncio.sleep(BETWEEN_TWO_S))

    def _names(self) -> tuple[str, ...]:
        found = (self._node.object or {}).get("status") or {}
        return serving_names(found.get("addresses") or ())

    async def _while_named(self, names: tuple[str, ...], work: Coroutine[Any, Any, object]) -> None:
        """Do it to its end, or until the Node has other addresses."""
        async with asyncio.TaskGroup() as group:
            task = spawn(group, work, name="serving certificate")
            watch = spawn(group, self._other_than(names), name="addresses of the node")
            await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
            task.cancel()
            watch.cancel()

    async def _other_than(self, names: tuple[str, ...]) -> None:
        while self._names() == names:
            self._changed.clear()
            await self._changed.wait()
