"""Chain names and rule comments.  Pure, no I/O.

Before: nothing.  Next: `proxy.iptables.render`.  The names are those kube-proxy gives, hash included, because
people and tools look for them, and because a stable name is what keeps session affinity over a restart.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from proxy.routes import PortName, ServiceRoute

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = tuple(first + second for first in _BASE32 for second in _BASE32)
_COMMENT_LIMIT = 255
_UNSAFE = re.compile(r"[^A-Za-z0-9 ._/:;,()>-]")


def _hash16(text: str) -> str:
    # Base32 of the first 80 bits; base64.b32encode takes ten times as long, and there may be 10,000 services.
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:10], "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(70, -1, -10)])


@lru_cache(maxsize=65536)
def port_hash(name: PortName) -> str:
    """The 16 characters that tell the chains of one service port from all others."""
    return _hash16(f"{name}{name.protocol.lower()}")


def affinity_list(name: PortName, target: str) -> str:
    """Name of the `recent` list that remembers the clients of `target` ("ip:port") for one service port."""
    return "KUBE-SEP-" + _hash16(f"{name}{name.protocol.lower()}{target}")


def comment(text: str) -> str:
    """A comment match as iptables-save spells it; 255 bytes at most (XT_MAX_COMMENT_LEN), nothing to escape."""
    if len(text) > _COMMENT_LIMIT or _UNSAFE.search(text):
        text = _UNSAFE.sub("?", text)[:_COMMENT_LIMIT]
    return f'-m comment --comment "{text}"'


def rule_names(route: ServiceRoute, door: str) -> str:
    """Where the rules of one address of a service are (`proxy.explain` says which: "node port" and so on)."""
    key = port_hash(route.name)
    policy = "SVL" if (route.internal_local if door == "cluster IP" else route.external_local) else "SVC"
    way = [f"KUBE-{policy}-{key}"]
    if door != "cluster IP":
        way.insert(0, f"KUBE-EXT-{key}")
    if door == "load balancer IP" and route.allowed_sources:
        way.insert(0, f"KUBE-FW-{key}")
    if door == "node port":
        way.insert(0, "KUBE-NODEPORTS")
    return f"table nat, KUBE-SERVICES -> {' -> '.join(way)}"
