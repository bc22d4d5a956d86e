"""A short stable name for what a container was started from.

Pure.  Written to the annotation `io.kubernetes.container.hash`; agent/pods/observe compares it with the container the
Pod wants now and replaces a container whose hash differs.  Like the kubelet's, the hash covers name and image only:
everything else of a running pod is immutable, and for a static pod every change of the file makes another pod
(another UID).
"""

from __future__ import annotations

import json

from lightkube.models import core_v1

_FNV32_OFFSET = 0x811C9DC5
_FNV32_PRIME = 0x01000193


def container_hash(container: core_v1.Container) -> str:
    """Up to eight hexadecimal digits; the value the kubelet of Kubernetes 1.36 writes for the same name and image."""
    fields = {"image": container.image or "", "name": container.name}
    content = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    # The kubelet hashes how Go prints a slice of bytes: their decimal values in brackets.
    printed = f"([]uint8)[{' '.join(map(str, content))}]"
    return f"{fnv32a(printed.encode()):x}"


def fnv32a(data: bytes) -> int:
    """FNV-1a, 32 bits (RFC 9923)."""
    state = _FNV32_OFFSET
    for byte in data:
        state = (state ^ byte) * _FNV32_PRIME & 0xFFFFFFFF
    return state
