"""The counters of a kubelet whose names no library would give them.  Pure.

Before: `measures` has the text of all families, of `daemonkit.families`.  Next: who asked for it.
"""

from __future__ import annotations

UNSUFFIXED_COUNTERS = (
    "kubelet_certificate_manager_client_expiration_renew_errors",
    "kubelet_preemptions",
    "kubelet_server_expiration_renew_errors",
)
"""Counters whose names do not end in `_total` as the library has it: made as gauges, and called counters in the end."""


def name_counters(text: bytes) -> bytes:
    """The text of families, with the UNSUFFIXED_COUNTERS called counters."""
    for name in UNSUFFIXED_COUNTERS:
        text = text.replace(f"# TYPE {name} gauge\n".encode(), f"# TYPE {name} counter\n".encode())
    return text
