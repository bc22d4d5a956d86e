"""Ends a task that the CRI has lost sight of, by containerd's own task service. I/O.

Before this comes `runtime`, after it `channel`. Whoever asked for a start or a sandbox can be gone before the answer,
as an agent that was killed is: containerd then gives up half way, and in rare cases leaves a task behind that waits for
ever to be started. Its CRI counts the container as over and refuses to remove it ("cannot delete running task"), or
forgets the sandbox and keeps the task. Seen with containerd 1.6.20 and 2.2.1, in one of some 40 starts cut off at a
random instant.
"""

from __future__ import annotations

import signal
from contextlib import suppress

from cri_client.channel import Channel
from cri_client.containerd_api import METADATA, TASKS_PATH, task_request
from cri_client.errors import NotFound, Unimplemented

_PATIENCE_S = 10.0


async def end_task(channel: Channel, some_id: str) -> None:
    """Kill the task of that id, wait for its end and have it forgotten.

    Silent where there is none, and where the runtime is no containerd. CriError when it does not end.
    """

    steps = (
        ("Kill", task_request(some_id, signal.SIGKILL)),
        ("Wait", task_request(some_id)),
        ("Delete", task_request(some_id)),
    )
    with suppress(Unimplemented):
        for method, request in steps:
            # Kill says NotFound of a process that has ended by itself, and its task is still there.
            with suppress(NotFound):
                await channel.call_raw(f"{TASKS_PATH}/{method}", request, _PATIENCE_S, METADATA)
