"""Says each problem once when it appears and once when it is gone, not at every rescan.

Before: `proxy.assembly` passes what is wrong now.  Next: the journal.  Remembers the last picture, writes log records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from proxy.routes import ServiceProblem
from proxy.sources.api_server import Problem
from proxy.sources.directory import DirectoryState

_log = logging.getLogger(__name__)


class ProblemLog:
    """The problems that were said already."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._objects: dict[str, str] = {}
        self._services: dict[str, str] = {}

    def see_directory(self, state: DirectoryState) -> None:
        """Log files whose error is new or gone."""
        now = {error.path: str(error) for error, _ in state.errors}
        kept = {error.path for error, last_good in state.errors if last_good}
        if state.problem:
            now[""] = state.problem
        for path, text in now.items():
            if self._files.get(path) != text:
                _log.error("%s%s", text, "; its last good version stays in force" if path in kept else "")
        for path in self._files.keys() - now.keys():
            gone = path and not any(file.path == path for file in state.files.values())
            _log.info("%s %s", path or "the manifest directory", "is gone" if gone else "is good again")
        self._files = now

    def see_objects(self, problems: Iterable[Problem]) -> None:
        """Log objects of the API server whose problem is new or gone."""
        now = {str(error): "; its last good version stays in force" if kept else "" for error, kept in problems}
        for text in now.keys() - self._objects.keys():
            _log.error("%s%s", text, now[text])
        for text in self._objects.keys() - now.keys():
            _log.info("no longer: %s", text)
        self._objects = now

    def see_services(self, problems: Iterable[ServiceProblem]) -> None:
        """Log what is not programmed, where that is new or gone."""
        now = {str(problem): f"{problem.namespace}/{problem.service}" for problem in problems}
        for text in now.keys() - self._services.keys():
            _log.warning("%s", text, extra={"SERVICE": now[text]})
        for text in self._services.keys() - now.keys():
            _log.info("no longer: %s", text, extra={"SERVICE": self._services[text]})
        self._services = now
