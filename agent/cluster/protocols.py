"""What the parts of this package need of each other and of a client, for fakes too.  Types only.

Before: `kube_client.client.KubeClient` and `node_look` are these.  Next: `node_keeper` and `lease_keeper` use them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from agent.cluster.node_object import NodeView


class Api(Protocol):
    """Single requests to an API server; both raise ApiError."""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """The body of a good answer."""
        ...

    async def send(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", params: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of a good answer."""
        ...


class Look(Protocol):
    """The eyes of the node."""

    async def look(self) -> NodeView:
        """What this machine is now.  Raises OSError while that cannot be said."""
        ...
