"""The configuration in force as a KubeletConfiguration and as flags: what /configz and /flagz answer.  Pure.

Before: config.py has read file and flags.  Next: agent/server/node_api sends it.  Fields that nobody has set are there
with the value that counts, and what is empty is not, as the kubelet has it (omitempty); a duration of 0 is never empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.config_fields import BY_FLAG, FIELDS
from agent.config_values import default_of
from daemonkit.duration import format_duration
from daemonkit.flag_text import flag_text

_ALSO_EMPTY = frozenset({
    "authentication.anonymous.enabled", "authentication.webhook.enabled", "cgroupsPerQOS", "containerLogMaxFiles",
    "containerLogMaxWorkers", "containerRuntimeEndpoint", "cpuCFSQuota", "enableControllerAttachDetach",
    "enableDebugFlagsHandler", "enableDebuggingHandlers", "enableProfilingHandler", "enableServer",
    "enableSystemLogHandler", "enableSystemLogQuery", "eventRecordQPS", "failCgroupV1", "failSwapOn", "healthzPort",
    "imageGCHighThresholdPercent", "imageGCLowThresholdPercent", "iptablesDropBit", "iptablesMasqueradeBit",
    "kubeAPIQPS", "localStorageCapacityIsolation", "logging.verbosity", "makeIPTablesUtilChains",
    "maxParallelImagePulls", "memoryThrottlingFactor", "mergeDefaultEvictionSettings", "nodeStatusMaxImages",
    "oomScoreAdj", "podPidsLimit", "registerNode", "registryPullQPS", "resolvConf", "seccompDefault",
    "serializeImagePulls", "singleProcessOOMKill",
})  # fmt: skip
"""Fields that are pointers upstream, or always there: 0, false and "" are values of their own."""
_OUR_OWN = frozenset({"offline.enabled"})
"""Not of the kubelet's configuration: not even the object that they are in is there while they are not set."""


def config_document(given: Mapping[str, object]) -> dict[str, Any]:
    """Fields by name as the object has them, as JSON values; `given` are values by the full name of their field."""
    found: dict[str, Any] = {}
    for name, field in FIELDS.items():
        value = given.get(name, default_of(field))
        if value is None or (name in _OUR_OWN and not value):
            continue
        if field.kind == "duration" and isinstance(value, int | float):
            value = format_duration(value)
        *outer, last = name.split(".")
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        if not value and name not in _ALSO_EMPTY:
            continue
        place[last] = list(value) if isinstance(value, tuple) else value
    return found


def flag_values(given: Mapping[str, object]) -> dict[str, str]:
    """Every flag without its dashes, and what it is by itself or by the file, as Go's pflag writes values."""
    return {flag: flag_text(field.kind, given.get(field.name, default_of(field))) for flag, field in BY_FLAG.items()}
