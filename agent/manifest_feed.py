"""Feeds the pods of the manifests, and the ConfigMaps and Secrets they refer to, to the workers, picture by picture.

Before: `sources/manifest_dir` yields whole pictures. Next: `pods/workers` acts on the pods, the board shows the errors,
the state directory keeps the last good text of each file for the next agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from agent.config import AgentConfig
from agent.pods.wanted import Wanted
from agent.pods.workers import PodWorkers
from agent.server.board import StatusBoard
from agent.sources.manifest_dir import ManifestState, remember, watch_manifests
from agent.sources.runtime_class import with_runtime_class
from agent.state_dir import StateDir
from kube_objects.config_data import ConfigObjects

GATHER_S = 0.2  # a pod that starts has its files written at the same time: it must not wait for ours
RETRY_S = 10.0
_log = logging.getLogger(__name__)


class ManifestFeed:
    """The static pods. `first` waits for the first picture, `follow` acts on all later ones, `keep` stores them."""

    def __init__(self, config: AgentConfig, board: StatusBoard, state: StateDir) -> None:
        self._config = config
        self._board = board
        self._state = state
        self._pictures = self._watch()
        self._shown = ManifestState()
        self._saved: dict[str, bytes] | None = None  # what an earlier agent left may be out of date
        self._unsaved = asyncio.Event()
        self._complaint = ""

    async def first(self) -> tuple[list[Wanted], ConfigObjects]:
        """The pods wanted at the start, and what they may refer to."""
        picture = await anext(self._pictures)
        self._show(picture)
        return wanted_of(picture), objects_of(picture)

    async def follow(self, workers: PodWorkers) -> None:
        """Hand every further picture to the workers, for ever."""
        async for picture in self._pictures:
            self._show(picture)
            workers.learn_objects(objects_of(picture))
            workers.want(wanted_of(picture))

    async def keep(self) -> None:
        """Write the last good texts down a moment after each change, for ever; a disk that is full is tried again."""
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            await asyncio.sleep(GATHER_S)
            if not await self._save(dict(self._shown.raw)):
                await asyncio.sleep(RETRY_S)
                self._unsaved.set()

    async def _watch(self) -> AsyncIterator[ManifestState]:
        last_good = remember(self._state.load_manifests(), self._config.node_name)
        async for picture in watch_manifests(self._config, last_good):
            yield picture

    def _show(self, picture: ManifestState) -> None:
        """Each error is logged when it is new, and shown as long as it lasts."""
        known = set(map(id, self._shown.errors.values()))
        for error in picture.errors.values():
            if id(error) not in known:
                _log.warning("%s", error)
        self._shown = picture
        self._unsaved.set()
        self._board.set_errors(
            [
                {
                    "path": error.path,
                    "field": error.field,
                    "line": error.line,
                    "message": error.message,
                    "lastGood": path in picture.pods,
                }
                for path, error in picture.errors.items()
            ]
        )

    async def _save(self, raw: dict[str, bytes]) -> bool:
        if raw == self._saved:
            return True
        try:
            await asyncio.to_thread(self._state.write_manifests, raw)
        except OSError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.warning("cannot keep the last good manifests: %s; going on without, trying again", error)
            return False
        self._saved, self._complaint = raw, ""
        return True


def wanted_of(picture: ManifestState) -> list[Wanted]:
    """The pods of a picture, each with the file it is written in. Pure."""
    objects = objects_of(picture)
    return [Wanted(with_runtime_class(one.pod, objects), one.path) for one in picture.pods.values()]


def objects_of(picture: ManifestState) -> ConfigObjects:
    """The ConfigMaps and Secrets of a picture. Pure."""
    return ConfigObjects(picture.objects.values())
