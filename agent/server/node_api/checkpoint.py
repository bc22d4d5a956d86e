"""/checkpoint/NAMESPACE/POD/CONTAINER: a running container as it is now, in a file of this node.  I/O: the runtime.

Before: `server`.  Next: the runtime writes the file, which has its name only when it is whole: the memory of the
container is in it, so it is root's alone.  What failed, or was asked for by somebody who has left, leaves none, also
where the runtime goes on for a while.
Sources: kubelet checkpoint API (KEP-2008), its CheckpointContainer.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from agent.server.node_api.at_once import AtOnce
from agent.server.node_api.targets import VerbError, Worker, Workers, container_names, find_pod, find_running
from cri_client.errors import CriError
from daemonkit.files import remove_half_written, sync_directory
from daemonkit.tasks import finish_first

MAX_CHECKPOINTS = 4
_MAX_INT64 = (1 << 63) - 1
_MAX_TIMEOUT_S = 24 * 3600
"""The runtime is asked for no longer, whatever the request says."""
_LOOK_AGAIN_S = (1.0, 4.0, 15.0, 60.0, 240.0, 900.0)
"""A runtime that was told to stop, or has taken too long, may make its file later; nobody says when it will not."""


class CheckpointRuntime(Protocol):
    """What of a runtime is used."""

    async def checkpoint_container(self, container_id: str, location: str, timeout_s: int = 0) -> None:
        """Write the file.  Raises CriError."""
        ...


class Checkpoints:
    """The verb; `directory` is made, for root alone, when it is needed."""

    def __init__(self, runtime: CheckpointRuntime, workers: Workers, directory: Path) -> None:
        self._runtime = runtime
        self._workers = workers
        self._directory = directory
        self._at_once = AtOnce(MAX_CHECKPOINTS, "checkpoints")

    async def post(self, request: web.BaseRequest, namespace: str, pod: str, container: str) -> web.StreamResponse:
        """The file's name, in the kubelet's form.  Raises VerbError."""
        try:
            worker = find_pod(self._workers(), namespace, pod)
        except VerbError:
            raise VerbError(404, "pod does not exist") from None
        if worker.wish.pod is None or container not in container_names(worker.wish.pod):
            raise VerbError(404, f"container {container} does not exist")
        timeout_s = parse_timeout(request.query.getall("timeout", []))
        with self._at_once:
            try:
                location = await self._make(worker, f"{pod}_{namespace}-{container}", container, timeout_s)
            except (VerbError, CriError, OSError) as error:
                cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
                what = f"checkpointing of {namespace}/{pod}/{container}"
                raise VerbError(500, f"{what} failed ({cause})") from None
        return web.Response(body=msgspec.json.encode({"items": [str(location)]}), content_type="application/json")

    async def _make(self, worker: Worker, name: str, container: str, timeout_s: int) -> Path:
        if timeout_s < 0:
            raise VerbError(500, "CheckpointContainer requires the timeout value to be > 0")
        run = find_running(worker, container)
        self._directory.mkdir(0o700, exist_ok=True)
        if self._at_once.open == 1:
            remove_half_written(self._directory)  # of a runtime that went on after its time
        location = self._directory / f"checkpoint-{name}-{_now()}.tar"
        part = self._directory / f".{location.name}.{secrets.token_hex(4)}.tmp"
        try:
            await self._runtime.checkpoint_container(run.id, str(part), min(timeout_s, _MAX_TIMEOUT_S))
            await finish_first(asyncio.to_thread(_finish, part, location))
        except asyncio.CancelledError:
            location.unlink(missing_ok=True)
            _unlink_again(part, _LOOK_AGAIN_S)
            raise
        except CriError as error:
            if error.outcome_unknown:
                _unlink_again(part, _LOOK_AGAIN_S)
            raise
        finally:
            part.unlink(missing_ok=True)
        return location


def parse_timeout(values: Sequence[str]) -> int:
    """Seconds: the last of several counts, 0 is the runtime's own.  Raises VerbError."""
    if not values:
        return 0
    text = values[-1]
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20 and abs(int(text)) <= _MAX_INT64):
        raise VerbError(404, "cannot parse value of timeout parameter")
    return int(text)


def _unlink_again(part: Path, pauses_s: Sequence[float]) -> None:
    with contextlib.suppress(OSError):
        part.unlink()
    if pauses_s:
        asyncio.get_running_loop().call_later(pauses_s[0], _unlink_again, part, pauses_s[1:])


def _now() -> str:
    """This machine's time in RFC 3339, as Go writes it."""
    text = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text


def _finish(part: Path, location: Path) -> None:
    """Whole and for root alone under its name, which no other checkpoint may have.  Raises OSError."""
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.link(part, location)
    sync_directory(location.parent)
