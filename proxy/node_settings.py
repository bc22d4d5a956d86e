"""Connection tracking and OOM settings that kube-proxy makes on its node.

Before: `proxy.config`.  Next: the kernel, by /proc.  `plan_settings` is pure, `apply_settings` writes.
None of it is needed for routing, so what cannot be written is reported and the proxy goes on.
Source: kube-proxy's conntrack.* fields, Documentation/networking/nf_conntrack-sysctl.rst.
"""

from __future__ import annotations

from pathlib import Path

from proxy.config import ConntrackConfig
from proxy.iptables.sysctls import write_sysctl

_PREFIX = "net.netfilter.nf_conntrack_"
_MOST_SCALED = 1048576
_HASHSIZE = Path("/sys/module/nf_conntrack/parameters/hashsize")
_ENTRIES_PER_BUCKET = 4


def plan_settings(config: ConntrackConfig, cpus: int) -> tuple[tuple[str, str], ...]:
    """(sysctl, value) pairs; a zero in the configuration leaves the kernel's value alone.

    maxPerCore times the cores counts up to a million entries, so that a big machine does not spend its memory on them.
    """
    wanted: list[tuple[str, str]] = []
    if config.max_per_core > 0:
        scaled = config.max_per_core * cpus
        most = _MOST_SCALED if scaled > _MOST_SCALED else max(config.min_entries, scaled)
        wanted.append((f"{_PREFIX}max", str(most)))
    for name, value_s in (
        ("tcp_timeout_established", config.tcp_established_timeout_s),
        ("tcp_timeout_close_wait", config.tcp_close_wait_timeout_s),
        ("udp_timeout", config.udp_timeout_s),
        ("udp_timeout_stream", config.udp_stream_timeout_s),
    ):
        if value_s > 0:
            wanted.append((f"{_PREFIX}{name}", str(int(value_s))))
    if config.tcp_be_liberal:
        wanted.append((f"{_PREFIX}tcp_be_liberal", "1"))
    return tuple(wanted)


def write_conntrack(config: ConntrackConfig, cpus: int) -> tuple[str, ...]:
    """Write them; returns what could not be written, each with what to do about it."""
    problems = (_apply_setting(name, value) for name, value in plan_settings(config, cpus))
    return tuple(problem for problem in problems if problem is not None)


def apply_settings(config: ConntrackConfig, cpus: int, oom_score_adj: int) -> tuple[str, ...]:
    """The same, and our own score for the day when memory runs out."""
    problems = list(write_conntrack(config, cpus))
    try:
        score = Path("/proc/self/oom_score_adj")
        if int(score.read_text()) != oom_score_adj:
            score.write_text(str(oom_score_adj))
    except OSError as error:
        problems.append(
            f"cannot set our oom_score_adj to {oom_score_adj}: {error.strerror}; "
            f"let systemd do it (OOMScoreAdjust={oom_score_adj}) or set oomScoreAdj"
        )
    return tuple(problems)


def _apply_setting(name: str, value: str) -> str | None:
    problem = write_sysctl(name, value)
    if problem is None and name == f"{_PREFIX}max":
        problem = _grow_hash_table(int(value) // _ENTRIES_PER_BUCKET)
    return problem


def _grow_hash_table(buckets: int) -> str | None:
    """More entries in too few buckets make every packet slow.  Never shrinks it."""
    try:
        if int(_HASHSIZE.read_text()) < buckets:
            _HASHSIZE.write_text(str(buckets))
    except OSError as error:
        return f"cannot set {_HASHSIZE} to {buckets}: {error.strerror}; set it on the host"
    return None
