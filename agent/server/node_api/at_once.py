"""So many of one kind of request at once, and no more.  Pure.

Before: `server` has let the caller through.  Next: the verb's own work; what is one too many is refused before it.
"""

from __future__ import annotations

from agent.server.node_api.targets import VerbError


class AtOnce:
    """A context for each request; `open` counts those that there are."""

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        self.open = 0
        self._what = what

    def __enter__(self) -> None:
        """Raises VerbError."""
        if self.open >= self.limit:
            raise VerbError(429, f"{self.limit} {self._what} are open on this node, which is the most")
        self.open += 1

    def __exit__(self, *_: object) -> None:
        self.open -= 1
