"""What of a configuration that was read again can be put in force, and what takes a restart. Pure.

Before: `settings_keeper`, at SIGHUP. Next: the merged configuration replaces the old one.
"""

from __future__ import annotations

import dataclasses

from agent.config import AgentConfig

# What the parts read from the configuration each time they use it. Everything else was used once, at the start.
LIVE = frozenset(
    {
        "cluster_dns",
        "cluster_domain",
        "cpu_cfs_quota",
        "crash_loop_max_s",
        "log_policy",
        "max_pods",
        "node_labels",
        "resolv_conf",
        "seccomp_default",
        "single_process_oom_kill",
        "verbosity",
    }
)
_SILENT = frozenset({"given", "notes"})


def apply_config(running: AgentConfig, wanted: AgentConfig) -> AgentConfig:
    """The running configuration with what can be changed while it runs.

    What was given is what /configz tells: it stays as it was where part of it only counts after a restart.
    """
    given = running.given if needs_restart(running, wanted) else wanted.given
    return dataclasses.replace(running, given=given, **{name: getattr(wanted, name) for name in LIVE})


def needs_restart(running: AgentConfig, wanted: AgentConfig) -> tuple[str, ...]:
    """The fields that differ and are only read at the start."""
    names = (one.name for one in dataclasses.fields(AgentConfig) if one.name not in LIVE | _SILENT)
    return tuple(name for name in names if getattr(running, name) != getattr(wanted, name))
