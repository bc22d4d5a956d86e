"""Ends what the CRI has lost sight of, by containerd's own services for tasks and containers. I/O.

Before this comes `runtime`, after it `channel`. Whoever asked for a start or a sandbox can be gone before the answer,
as an agent that was killed is: containerd then gives up half way, and in rare cases leaves a task behind that waits for
ever to be started. Its CRI counts the container as over and refuses to remove it ("cannot delete running task"), or
forgets the sandbox and keeps the task, the container and its snapshot. Seen with containerd 1.6.20 and 2.2.1, in one of
some 40 calls cut off at a random instant. Both functions are silent where there is nothing, and where the runtime is no
containerd; CriError when it does not end. Not covered: an agent killed for a second time between the CRI's removal of
such a sandbox and `drop_container` leaves containerd's record of it, without a process or a mount.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from cri_client.channel import Channel
from cri_client.containerd_api import CONTAINERS_PATH, METADATA, TASKS_PATH, id_request
from cri_client.errors import CriError, NotFound, Unimplemented

_PATIENCE_S = 10.0
_LOOKS = 20
_LOOK_AGAIN_S = 0.1


async def end_task(channel: Channel, some_id: str) -> None:
    """Kill the task of that id, wait for its end and have it forgotten."""
    if not await _is_there(channel, some_id):
        return
    try:
        for method, signal_number in (("Kill", signal.SIGKILL), ("Wait", 0), ("Delete", 0)):
            # Kill says NotFound of a process that has ended by itself, and its task is still there.
            with suppress(NotFound):
                await _call(channel, f"{TASKS_PATH}/{method}", id_request(some_id, signal_number))
    except CriError:
        # The CRI forgets a task that ends, too: whoever comes second may find the shim's connection closed.
        if not await _soon_gone(channel, some_id):
            raise


async def _is_there(channel: Channel, some_id: str) -> bool:
    try:
        await _call(channel, f"{TASKS_PATH}/Get", id_request(some_id))
    except (NotFound, Unimplemented):
        return False
    return True


async def _soon_gone(channel: Channel, some_id: str) -> bool:
    with suppress(CriError):
        for _ in range(_LOOKS):
            if not await _is_there(channel, some_id):
                return True
            await asyncio.sleep(_LOOK_AGAIN_S)
    return False


async def drop_container(channel: Channel, some_id: str) -> None:
    """Have the container of that id forgotten, after its task; its snapshot is garbage then."""
    with suppress(NotFound, Unimplemented):
        await _call(channel, f"{CONTAINERS_PATH}/Delete", id_request(some_id))


async def _call(channel: Channel, path: str, request: bytes) -> None:
    await channel.call_raw(path, request, _PATIENCE_S, METADATA)
