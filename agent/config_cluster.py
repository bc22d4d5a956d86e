"""What the configuration says about joining a cluster: one value of the kubelet's fields, and taints as it reads them.

Pure.  Before: config.py has the settings.  Next: `AgentConfig.cluster`, for agent/cluster.  Sources:
KubeletConfiguration `registerWithTaints`, API type Taint, `kubelet --help` (--register-with-taints).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.config_server import ServerConfig
from kube_objects.names import is_label_value, is_qualified_name

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint; `value` may be empty."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Periods in seconds.  Without `kubeconfig` the node stands alone and nothing else here counts."""

    kubeconfig: Path | None
    bootstrap_kubeconfig: Path | None = None
    cert_dir: Path = Path("/var/lib/kubelet/pki")
    rotate: bool = False
    register_node: bool
    taints: tuple[Taint, ...]
    external_cloud: bool
    provider_id: str
    status_update_s: float
    status_report_s: float
    lease_duration_s: int
    max_images: int
    qps: int
    burst: int
    attach_detach: bool
    server: ServerConfig = field(default_factory=ServerConfig)
    event_qps: int = 50
    event_burst: int = 100
    offline: bool = False


def parse_taints(value: object) -> tuple[Taint, ...]:
    """Taints of a file (mappings) or of the flag (KEY=VALUE:EFFECT or KEY:EFFECT).  Raises ValueError."""
    items = value if isinstance(value, tuple | list) else ()
    found = tuple(_taint(item) for item in items)
    for taint in found:
        if sum((taint.key, taint.effect) == (other.key, other.effect) for other in found) > 1:
            raise ValueError(f"{taint.key}:{taint.effect} stands there twice")
    return found


def _taint(item: object) -> Taint:
    if isinstance(item, str):
        front, colon, effect = item.rpartition(":")
        key, _, value = front.partition("=")
        if not colon:
            raise ValueError(f"{item!r} must be KEY=VALUE:EFFECT or KEY:EFFECT")
    elif isinstance(item, Mapping):
        if unknown := item.keys() - {"key", "value", "effect"}:
            raise ValueError(f"a taint has key, value and effect, not {', '.join(sorted(map(str, unknown)))}")
        key, value, effect = (_text(item, name) for name in ("key", "value", "effect"))
    else:
        raise ValueError(f"must be a list of taints with key, value and effect, not {item!r}")
    if problem := is_qualified_name(key):
        raise ValueError(f"key of a taint: {problem}")
    if problem := is_label_value(value):
        raise ValueError(f"value of taint {key}: {problem}")
    if effect not in EFFECTS:
        raise ValueError(f"effect of taint {key}: must be one of {', '.join(EFFECTS)}, not {effect!r}")
    return Taint(key, value, effect)


def _text(item: Mapping[str, object], name: str) -> str:
    found = item.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise ValueError(f"{name} of a taint must be a string, not {found!r}")
    return found
