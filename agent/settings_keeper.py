"""Keeps in force what was configured and what this machine is: SIGHUP, other addresses.  I/O: reads files, addresses.

Before: `running` has started with `Settings`.  Next: `reload` (pure) says what of a new configuration counts at once,
and the parts find it where they look each time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence

from agent.assembly import Settings
from agent.config import AgentConfig, ConfigError, load_config
from agent.container_spec.facts import NodeFacts
from agent.node.address_keeper import AddressKeeper
from agent.node.facts import read_node_facts
from agent.pods.spec_sources import SpecSources
from agent.reload import apply_config, needs_restart
from daemonkit.journal import setup_logging
from daemonkit.notify import Notifier

_log = logging.getLogger(__name__)


class SettingsKeeper:
    """`at_start` is the configuration as the `arguments` gave it; `tell` is called with other facts of the node."""

    def __init__(
        self,
        arguments: Sequence[str],
        at_start: AgentConfig,
        settings: Settings,
        sources: SpecSources,
        tell: Callable[[NodeFacts], None],
    ) -> None:
        self._arguments = arguments
        self._at_start = at_start
        self._settings = settings
        self._sources = sources
        self._tell = tell

    async def reload_on(self, hangup: asyncio.Event, notifier: Notifier) -> None:
        """For ever: each time that happens."""
        while True:
            await hangup.wait()
            hangup.clear()
            notifier.reloading()
            await self._reload()
            notifier.ready()

    async def keep_addresses(self) -> None:
        """For ever."""
        settings = self._settings
        await AddressKeeper(
            lambda: settings.config,
            lambda: settings.node.node_ips,
            lambda addresses: self._take(dataclasses.replace(settings.node, node_ips=addresses)),
            lambda: settings.config.cluster.status_update_s,
        ).run()

    async def _reload(self) -> None:
        settings = self._settings
        try:
            wanted = load_config(self._arguments)
            merged = apply_config(settings.config, wanted)
            node = dataclasses.replace(await read_node_facts(merged), runtime=settings.node.runtime)
        except (ConfigError, OSError, ValueError) as error:
            _log.error("cannot reload the configuration, the old one stays in force: %s", error)
            return
        for name in needs_restart(self._at_start, wanted):
            _log.warning("configuration: a change of %s takes a restart of longshore-agent", name)
        settings.config = self._sources.config = merged
        setup_logging(merged.verbosity)
        self._take(node)
        _log.info("configuration read again")

    def _take(self, node: NodeFacts) -> None:
        self._settings.node = self._sources.node = node
        self._tell(node)
