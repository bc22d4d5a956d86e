"""The configuration in force as a KubeProxyConfiguration: what /configz and /flagz answer and --write-config-to
writes.  Pure.

Before: `proxy.config` read flags and file.  Next: a person, or another kube-proxy.  Every field of v1alpha1 is there:
what was given, else what counts where nothing is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from daemonkit.duration import format_duration
from daemonkit.flag_text import flag_text
from proxy.config import ProxyConfig
from proxy.config_fields import BY_FLAG, FIELDS, Field, Kind
from proxy.config_values import feature_gates

GROUP = "kubeproxy.config.k8s.io"
_DEFAULTS: Mapping[str, object] = {
    "apiVersion": f"{GROUP}/v1alpha1",
    "kind": "KubeProxyConfiguration",
    "clientConnection.qps": 5.0,
    "clientConnection.burst": 10,
    "clientConnection.contentType": "application/json",
    "logging.format": "text",
    "logging.flushFrequency": "5s",
    "logging.options": {},
    "logging.vmodule": [],
    "configSyncPeriod": 900.0,
    "detectLocalMode": "ClusterCIDR",
    "mode": "iptables",
    "oomScoreAdj": -999,
    "iptables.masqueradeBit": 14,
    "iptables.localhostNodePorts": True,
    "nftables.masqueradeBit": 14,
    **{f"{mode}.syncPeriod": 30.0 for mode in ("iptables", "ipvs", "nftables")},
    **{f"{mode}.minSyncPeriod": 1.0 for mode in ("iptables", "ipvs", "nftables")},
    "ipvs.scheduler": "rr",
    "conntrack.maxPerCore": 32768,
    "conntrack.min": 131072,
    "conntrack.tcpEstablishedTimeout": 86400.0,
    "conntrack.tcpCloseWaitTimeout": 3600.0,
}
_EMPTY: Mapping[Kind, object] = {
    Kind.STRING: "",
    Kind.BOOL: False,
    Kind.INT: 0,
    Kind.FLOAT: 0.0,
    Kind.DURATION: 0.0,
    Kind.STRINGS: (),
    Kind.GATES: {},
    Kind.ANY: None,
}


def config_document(config: ProxyConfig) -> dict[str, Any]:
    """The object, as JSON values."""
    document: dict[str, Any] = {}
    for field in FIELDS:
        if field.path:
            *sections, name = field.path.split(".")
            place = document
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = _plain(field, _value(field, config))
    return document


def flag_values(config: ProxyConfig) -> dict[str, str]:
    """Every flag without its dashes, and what counts: by itself, by the file, or by default."""
    return {flag: flag_text("", _plain(field, _value(field, config))) for flag, field in BY_FLAG.items()}


def _value(field: Field, config: ProxyConfig) -> object:
    bound = {
        "bindAddress": config.bind_address,
        "healthzBindAddress": _address(config.healthz_bind),
        "metricsBindAddress": _address(config.metrics_bind),
        "hostnameOverride": config.node_name,
        "mode": config.mode,
    }
    key = field.path or field.flag
    return bound.get(key, config.given.get(key, _DEFAULTS.get(key, _EMPTY[field.kind])))


def _plain(field: Field, value: object) -> object:
    if field.kind is Kind.DURATION:
        return format_duration(float(str(value)))
    if field.kind is Kind.GATES:
        return feature_gates(value)
    return list(value) if isinstance(value, tuple) else value


def _address(bind: tuple[str, int] | None) -> str:
    if bind is None:
        return ""
    host = f"[{bind[0]}]" if ":" in bind[0] else bind[0]
    return f"{host}:{bind[1]}"
