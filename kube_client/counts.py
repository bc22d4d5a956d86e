"""What was asked of API servers, and how it went.  Pure.

Before: `client` counts its requests.  Next: a daemon tells it under client-go's names (rest_client_*).
"""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

from daemonkit.tally import Tallies

BOUNDS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
NO_ANSWER = "<error>"


class RequestCounts:
    """`answers` are by status code (NO_ANSWER where none came), method and host; `seconds` by method and host, and a
    watch is none of them.
    """

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, str]] = Counter()
        self.seconds = Tallies(BOUNDS_S)

    def answered(self, method: str, server: str, status: int | None) -> None:
        """One request has got an answer, or none."""
        self.answers[NO_ANSWER if status is None else str(status), method, host_of(server)] += 1


def host_of(server: str) -> str:
    """Host and port of its URL."""
    return urlsplit(server).netloc
