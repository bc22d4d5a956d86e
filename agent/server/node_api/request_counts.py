"""The requests to the node's API as they are counted: begun, under way, and how long each took.  Reads the clock.

Before: `server` has a request.  Next: `agent_metrics` tells them.  Every label has few values: a path is the name of a
verb, or "other".  Source: kubelet server (ServeHTTP), where requests without credentials count, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager

from daemonkit.stopwatch import timed
from daemonkit.tally import Tallies

Label = tuple[str, str]
METHODS = frozenset({"OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT"})
_MEASURES = frozenset({"cadvisor", "probes", "resource"})
_LONG_RUNNING = frozenset({"exec", "attach", "debug"})


class ServedRequests:
    """By method and verb, see `label_of`."""

    def __init__(self) -> None:
        self.begun: Counter[Label] = Counter()
        self.under_way: Counter[Label] = Counter()
        self.seconds = Tallies()

    @contextmanager
    def counted(self, label: Label) -> Iterator[None]:
        """The request lasts as long as the block, however it ends."""
        self.begun[label] += 1
        self.under_way[label] += 1
        try:
            with timed(lambda seconds: self.seconds.add(seconds, *label)):
                yield
        finally:
            self.under_way[label] -= 1


def label_of(method: str, path: str, served: Container[str]) -> Label:
    """Method and verb by which a request is counted: whatever is asked, they are few.  `path` as it came."""
    first, _, rest = path.removeprefix("/").partition("/")
    if first == "metrics" and rest:
        second = rest.partition("/")[0]
        first = f"metrics/{second}" if second in _MEASURES else ""
    elif first not in served:
        first = ""
    return method if method in METHODS else "other", first or "other"


def is_long_running(verb: str) -> bool:
    """As the kubelet has it, which forgets port-forward."""
    return verb in _LONG_RUNNING
