"""Reading the daemons' local APIs without an event loop. I/O.

Before: a daemon serves its unix socket. Next: `lab.node` and the demo look at the JSON.
"""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

Json = dict[str, Any]


def get_json(socket_path: Path, path: str, timeout_s: float = 60.0) -> Json:
    """GET `path` from a local API; OSError when nobody listens, http.client.HTTPException for an answer that is not
    200.
    """
    connection = _UnixConnection(socket_path, timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise http.client.HTTPException(f"{path}: {answer.status} {body[:200]!r}")
    found: Json = json.loads(body)
    return found


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to an address."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
