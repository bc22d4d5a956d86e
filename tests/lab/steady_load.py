"""`python steady_load.py URL PER_SECOND`: GET a URL at a steady rate, each on a connection of its own, until
SIGTERM; then one line of JSON: how many were answered, how many at a time at most, and what went wrong.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from urllib.parse import urlsplit

# As long as TCP itself tries to get through, and a little longer: what it brings about in the end was not lost.
TIMEOUT_S = 150.0


class Load:
    """The requests under way and what became of the others."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._under_way: set[asyncio.Task[None]] = set()
        self.answered = 0
        self.most = 0
        self.errors: list[str] = []

    async def run(self, per_second: float) -> None:
        """Start one request after the other until SIGTERM, then wait for those under way."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        begin = loop.time()
        started = 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                while started < (loop.time() - begin) * per_second:
                    task = group.create_task(self._ask())
                    self._under_way.add(task)
                    task.add_done_callback(self._under_way.discard)
                    started += 1
                self.most = max(self.most, len(self._under_way))
                await asyncio.sleep(0.5 / per_second)

    async def _ask(self) -> None:
        began_s, doing = time.monotonic(), "connecting"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                doing = f"waiting at port {writer.get_extra_info('sockname')[1]}"
                try:
                    writer.write(b"GET / HTTP/1.0\r\n\r\n")
                    answer = await reader.read()
                finally:
                    writer.close()
            if answer.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")):
                self.answered += 1
            else:
                self.errors.append(f"answer {answer[:40]!r}")
        except (OSError, TimeoutError) as error:
            self.errors.append(f"{error!r} {doing} after {time.monotonic() - began_s:.1f} s")


def main() -> None:
    """Do what the module's docstring says."""
    load = Load(sys.argv[1])
    asyncio.run(load.run(float(sys.argv[2])))
    print(json.dumps({"answered": load.answered, "most": load.most, "errors": load.errors[:10]}), flush=True)


if __name__ == "__main__":
    main()
