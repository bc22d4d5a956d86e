"""A request's path and method -> what it asks for, and what one must be allowed to do for it.  Pure.

Before: `server` has a request's path as it came.  Next: `access` asks whether the caller may, `server` calls the verb.
A path that could be read in two ways is refused and never redirected: this side answers no 3xx (CVE-2018-1002102).
Sources: kubelet authentication/authorization; KEP-2862 (fine-grained subresources); PR kubernetes#136550 (a WebSocket
is a GET, and yet runs commands).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ONLY = {
    "stats": "stats",
    "metrics": "metrics",
    "logs": "log",
    "checkpoint": "checkpoint",
    "statusz": "statusz",
    "flagz": "configz",
}
_OR_PROXY = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}
EXEC_CLASS = frozenset({"exec", "attach", "portForward", "run", "cri", "debug"})
"""What runs something in a pod, or reads this process's memory."""


class PathError(ValueError):
    """The path cannot be one of ours."""


@dataclass(frozen=True, slots=True)
class Need:
    """`verb` on one of these subresources of this Node, the first that is allowed is enough."""

    verb: str
    subresources: tuple[str, ...]


def split_path(raw: str) -> tuple[str, ...]:
    """The decoded parts of a path; one slash at the end counts for nothing.  Raises PathError."""
    if not raw.startswith("/"):
        raise PathError("path must begin with a slash")
    parts = []
    for part in raw[1:].removesuffix("/").split("/"):
        try:
            text = unquote_to_bytes(part).decode()
        except UnicodeDecodeError:
            raise PathError("path is not UTF-8") from None
        if text in (".", "..") or not text.isprintable() or any(sign in text for sign in "/\\%"):
            raise PathError("path must have no dot segments, encoded slashes or control characters")
        parts.append(text)
    if "" in parts and parts != [""]:
        raise PathError("path must have no empty segments")
    return tuple(parts)


def need_of(method: str, parts: tuple[str, ...]) -> Need:
    """What the caller must be allowed to do.  A WebSocket is opened with GET; what it opens is created."""
    first = parts[0]
    if first in EXEC_CLASS:
        return Need("create", ("proxy",))
    verb = _VERBS.get(method, "")
    if first in _ONLY:
        return Need(verb, (_ONLY[first],))
    if first in _OR_PROXY:
        return Need(verb, (_OR_PROXY[first], "proxy"))
    return Need(verb, ("proxy",))
