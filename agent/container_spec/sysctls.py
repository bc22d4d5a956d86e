"""Which sysctls a pod may set on this node: the safe ones, and those that --allowed-unsafe-sysctls names.

Pure.  Before: agent/config has the patterns.  Next: agent/admission refuses a pod that sets another.  Source:
Kubernetes documentation, "Using sysctls in a Kubernetes Cluster".
"""

from __future__ import annotations

from collections.abc import Iterable

from lightkube.models import core_v1

# Namespaced, and harmless to others.
SAFE = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
NAMESPACED = ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.", "net.")


def pattern_problem(pattern: str) -> str:
    """Why a pattern (a name, or the beginning of one and `*`) cannot be allowed, "" when it can."""
    name = pattern.removesuffix("*").replace("/", ".")
    if "*" in name or not name:
        return f"{pattern!r} must be the name of a sysctl, or the beginning of one and '*'"
    if not any(name == one or name.startswith(one) for one in NAMESPACED):
        return f"{pattern!r} is not known to be namespaced: it would change the whole node"
    return ""


def forbidden_sysctl(pod: core_v1.Pod, allowed: Iterable[str]) -> str:
    """The first sysctl that the pod may not set here, "" when there is none."""
    context = pod.spec.securityContext if pod.spec else None
    patterns = [pattern.replace("/", ".") for pattern in allowed]
    for sysctl in (context.sysctls if context else None) or []:
        name = sysctl.name.replace("/", ".")
        if name not in SAFE and not any(_matches(name, pattern) for pattern in patterns):
            return name
    return ""


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
