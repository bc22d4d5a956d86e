"""/containerLogs/NAMESPACE/POD/CONTAINER: what a run of a container has written and goes on to write.  I/O: in threads.

Before: `server`.  Next: `cri_client.log_files` reads, `cri_client.log_text` makes the lines.  A follower is woken by
`daemonkit.dir_changes` when something is written, and ends when its run does, as `kubectl logs -f` wants it.
Readers are so many and no more, and have threads of their own: nobody else waits for a slow disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import HttpVersion11, web

from agent.pods.observe import ContainerObservation
from agent.server.node_api.at_once import AtOnce
from agent.server.node_api.log_options import LogOptions, parse_log_options
from agent.server.node_api.targets import VerbError, Worker, Workers, find_pod, find_run
from cri_client.log_files import RotatedLogError, follow, older_than, open_at_tail, read_new, read_rotated
from cri_client.log_text import LogText
from daemonkit.dir_changes import DirectoryChange, DirectoryChanges

MAX_LOGS = 500
_THREADS = 4
_AT_ONCE_BYTES = 256 << 10
_LAST_LOOKS, _LAST_PAUSE_S = 2, 0.05


class ContainerLogs:
    """The verb; `logs_dir` as podLogsDir."""

    def __init__(self, workers: Workers, logs_dir: Path, limit: int = MAX_LOGS) -> None:
        self._workers = workers
        self._logs_dir = logs_dir
        self._threads = ThreadPoolExecutor(_THREADS, "logs")
        self._changes = DirectoryChanges()
        self.at_once = AtOnce(limit, "logs")

    async def get(self, request: web.BaseRequest, namespace: str, pod: str, container: str) -> web.StreamResponse:
        """Raises VerbError before the first byte."""
        options = parse_log_options(request.query, time.time_ns())
        worker = find_pod(self._workers(), namespace, pod)
        run = find_run(worker, container, previous=options.previous)
        directory = self._logs_dir / f"{namespace}_{pod}_{worker.uid}" / container
        with self.at_once:
            return await self._answer(request, _Reader(directory, run.attempt, options, self._threads), worker, run)

    async def _answer(
        self, request: web.BaseRequest, reader: _Reader, worker: Worker, run: ContainerObservation
    ) -> web.StreamResponse:
        try:
            await reader.open()
        except OSError as error:
            raise VerbError(500, f"cannot read {reader.path}: {error.strerror}") from None
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        if request.version >= HttpVersion11:  # an older client reads to the end of its connection
            response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            with self._changes.of(reader.path.parent) as change:
                await _send(response, reader, change, lambda: _is_running(worker, run))
            await response.write_eof()
        finally:
            reader.close()
        return response


async def _send(
    response: web.StreamResponse, reader: _Reader, change: DirectoryChange, runs: Callable[[], bool]
) -> None:
    """Everything that is there, and for a follower what comes until the run has ended."""
    looks = 0
    while True:
        going = runs()
        text, more = await reader.read()
        if text:
            await response.write(text)
            change.moved()
        if not more:
            return
        if text:
            continue
        # What the runtime had in hand when the run ended comes a moment later.
        looks = 0 if going else looks + 1
        if looks > _LAST_LOOKS:
            return
        if not going:
            await asyncio.sleep(_LAST_PAUSE_S)
        elif not change.arm():
            await change.wait(lambda: not runs())


def _is_running(worker: Worker, run: ContainerObservation) -> bool:
    found = worker.seen.latest(run.name) if worker.seen is not None else None
    return found is not None and found.id == run.id and found.may_run


class _Reader:
    """One thread at a time."""

    def __init__(self, directory: Path, attempt: int, options: LogOptions, threads: ThreadPoolExecutor) -> None:
        self.path = directory / f"{attempt}.log"
        self._threads = threads
        self._directory = directory
        self._attempt = attempt
        self._options = options
        self._text = LogText(
            timestamps=options.timestamps,
            since_ns=options.since_ns,
            limit_bytes=options.limit_bytes,
            streams=options.streams,
        )
        self._blocks: Iterator[bytes] = iter(())
        self._open = contextlib.ExitStack()

    async def open(self) -> None:
        """Raises OSError."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._open_files)

    async def read(self) -> tuple[bytes, bool]:
        """Some text, b"" where nothing is new, and whether there may be more."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read)

    def _open_files(self) -> None:
        file = open_at_tail(self._directory, self._attempt, self._options.tail)
        self._open.enter_context(file)
        older = older_than(file, self._directory, self._attempt)
        going_on = (
            follow(self._directory, self._attempt, file, older, restarts=False)
            if self._options.follow and not self._options.previous
            else read_new(file)
        )
        before = read_rotated(older, file, self._options.tail)
        self._blocks = _blocks(before, going_on)

    def _read(self) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        size = 0
        while size < _AT_ONCE_BYTES:
            if self._text.full:
                return b"".join(parts), False
            data = next(self._blocks, None)
            if data is None:
                return b"".join((*parts, self._text.close())), False
            parts.append(self._text.feed(data))
            size += len(data)
            if not data:
                break
        return b"".join(parts), True

    def close(self) -> None:
        """Give back the files."""
        if isinstance(self._blocks, Generator):
            with contextlib.suppress(ValueError):  # a thread that nobody waits for any more is just in it
                self._blocks.close()
        self._open.close()


def _blocks(before: Iterator[bytes], going_on: Iterator[bytes]) -> Iterator[bytes]:
    """One after the other; what rotation has spoilt is left out."""
    with contextlib.suppress(RotatedLogError):
        yield from before
    with contextlib.suppress(RotatedLogError):
        yield from going_on
