"""Runs credential provider plugins: a program per question, its answer kept for as long as it says. I/O.

Before: puller.py is about to pull an image that fits a plugin's patterns.  Next: the credentials of its answer.  Two
pulls that ask at the same time share one run.  What a plugin writes goes nowhere but into the answer; of what it writes
to standard error only that it failed is told.  Source: KEP-2133.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from agent.images.keyring import Credential, CredentialError, fits
from agent.images.names import parse_image_name
from agent.images.provider_config import Answer, Provider, parse_plugin_answer, plugin_request

RUN_S = 60.0
_REAP_S = 1.0
MAX_ANSWER_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class CredentialPlugins:
    """All plugins of the node; `directory` holds their programs."""

    def __init__(self, providers: Sequence[Provider], directory: str, now: Callable[[], float] = time.time) -> None:
        self._providers = providers
        self._directory = directory
        self._now = now
        self._cache: dict[tuple[str, str], tuple[float, tuple[Credential, ...]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._complaints: dict[str, str] = {}

    async def credentials(self, image: str) -> tuple[Credential, ...]:
        """What the plugins whose patterns fit the image have to say; one that fails says nothing."""
        name = parse_image_name(image)
        found: list[Credential] = []
        for provider in self._providers:
            if any(fits(pattern, name.host, name.path) for pattern in provider.match_images):
                found += await self._ask(provider, image, f"{name.host}/{name.path}", name.host)
        return tuple(found)

    async def _ask(self, provider: Provider, image: str, repository: str, registry: str) -> tuple[Credential, ...]:
        keys = {"Image": repository, "Registry": registry, "Global": ""}
        async with self._locks.setdefault(provider.name, asyncio.Lock()):
            now_s = self._now()
            self._cache = {key: kept for key, kept in self._cache.items() if now_s < kept[0]}
            for key in keys.values():
                kept = self._cache.get((provider.name, key))
                if kept is not None:
                    return kept[1]
            try:
                answer = await self._run(provider, image)
            except (CredentialError, OSError, TimeoutError) as error:
                self._complain(provider, str(error) or f"no answer within {RUN_S:g} s")
                return ()
            self._complaints.pop(provider.name, None)
            cache_s = provider.cache_s if answer.cache_s is None else answer.cache_s
            if cache_s > 0:
                self._cache[provider.name, keys[answer.key_type]] = now_s + cache_s, answer.credentials
            return answer.credentials

    async def _run(self, provider: Provider, image: str) -> Answer:
        process = await asyncio.create_subprocess_exec(
            os.path.join(self._directory, provider.name),
            *provider.args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **dict(provider.env)},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(RUN_S):
                output, _ = await process.communicate(plugin_request(image))
        finally:
            if process.returncode is None:
                await _kill(process)
        if process.returncode:
            raise CredentialError(f"ended with exit status {process.returncode}")
        if len(output) > MAX_ANSWER_BYTES:
            raise CredentialError(f"answered with more than {MAX_ANSWER_BYTES} bytes")
        return parse_plugin_answer(output)

    def _complain(self, provider: Provider, cause: str) -> None:
        if self._complaints.get(provider.name) != cause:
            self._complaints[provider.name] = cause
            _log.warning("cannot get credentials from plugin %s: %s; pulling without", provider.name, cause)


async def _kill(process: asyncio.subprocess.Process) -> None:
    """With all that it started, which would hold its output open; what has left its session is not waited for."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAP_S):
            await process.wait()
