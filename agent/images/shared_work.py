"""Work that several ask for is done once: whoever comes while it is under way waits for its answer.  Effects: its own.

Before: `puller` looks an image up, or pulls it.  Next: all that wait have the answer, or its error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from cri_client.errors import CriError

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
Key = TypeVar("Key")
Found = TypeVar("Found")
_log = logging.getLogger(__name__)


class SharedWork(Generic[Key, Found]):
    """Work under way by its key.  `spawn(coroutine, name)` starts a task that somebody owns."""

    def __init__(self, spawn: Spawn) -> None:
        self._spawn = spawn
        self._under_way: dict[Key, asyncio.Future[Found]] = {}

    async def join(self, key: Key, work: Callable[[], Coroutine[Any, Any, Found]]) -> Found:
        """Join what is under way, or start `work`; a caller that is cancelled leaves it running.  Raises CriError."""
        future = self._under_way.get(key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._under_way[key] = future
            self._spawn(self._carry_out(key, future, work()), "image")
        return await asyncio.shield(future)

    async def _carry_out(self, key: Key, future: asyncio.Future[Found], work: Coroutine[Any, Any, Found]) -> None:
        try:
            found = await work
        except CriError as error:
            future.set_exception(error)
            future.exception()  # read, so that nobody complains when no waiter is left
        except Exception as error:  # a mistake of ours with one image must not end the agent
            _log.exception("cannot bring an image to the node")
            future.set_exception(CriError("PullImage", f"{type(error).__name__}: {error}"))
            future.exception()
        except BaseException:
            future.cancel()
            raise
        else:
            future.set_result(found)
        finally:
            del self._under_way[key]
