"""A configuration that was read again: what of it counts from the start only.  Pure.

Before: `proxy.assembly` has read it after SIGHUP.  Next: it is in force, and `/configz` shows what is.
"""

from __future__ import annotations

from dataclasses import replace

from proxy.config import ProxyConfig

_ONLY_AT_START = (
    "mode", "manifest_dir", "manifest_dir_given", "api",
    "agent_socket", "api_socket", "healthz_bind", "metrics_bind", "bind_address_hard_fail",
    "conntrack", "oom_score_adj",
)  # fmt: skip
_PATHS = ("mode", "clientConnection", "healthzBindAddress", "metricsBindAddress", "bindAddressHardFail", "conntrack",
          "oomScoreAdj", "master", "manifest-dir", "agent-socket", "api-socket", "offline")  # fmt: skip
"""By what those are known in `ProxyConfig.given`, or the section they are in."""


def in_force(old: ProxyConfig, new: ProxyConfig) -> tuple[ProxyConfig, tuple[str, ...]]:
    """`new` with the values of `old` for what takes effect at the next start; the names of those that differ."""
    kept = {name: getattr(old, name) for name in _ONLY_AT_START}
    waiting = tuple(name for name, value in kept.items() if value != getattr(new, name))
    given = {path: value for path, value in new.given.items() if not _is_kept(path)}
    given |= {path: value for path, value in old.given.items() if _is_kept(path)}
    return replace(new, given=given, **kept), waiting


def _is_kept(path: str) -> bool:
    return path.partition(".")[0] in _PATHS
