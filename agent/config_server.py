"""What the configuration says about the node's HTTPS API: one value of the kubelet's fields, and Go's names of ciphers.

Before: config_reader.py has the settings.  Next: `ClusterConfig.server`, for agent/server/node_api.  Sources:
KubeletConfiguration (`authentication`, `authorization`, `tls*`), k8s.io/component-base cli/flag ciphersuites_flag,
RFC 5289 and RFC 7905 for the names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.config_reader import ConfigReader
from agent.feature_gates import CHECKPOINT, FLAGZ, STATUSZ

_TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Periods in seconds.  `ciphers` are OpenSSL's names for TLS 1.2, none of them: its own choice.  `gates` are
    those of the feature gates for single paths that are on.
    """

    enabled: bool = True
    address: str = "0.0.0.0"
    port: int = 10250
    certificate: Path | None = None
    key: Path | None = None
    bootstrap: bool = False
    tls13_only: bool = False
    ciphers: tuple[str, ...] = ()
    client_ca: Path | None = None
    token_review: bool = True
    token_ttl_s: float = 120.0
    always_allow: bool = False
    allowed_ttl_s: float = 300.0
    denied_ttl_s: float = 30.0
    debugging_handlers: bool = True
    system_logs: bool = True
    log_queries: bool = False
    profiling: bool = True
    debug_flags: bool = True
    gates: frozenset[str] = frozenset({CHECKPOINT, FLAGZ, STATUSZ})
    stream_idle_s: float = 4 * 3600.0
    volume_stats_s: float = 60.0


def parse_ciphers(names: Iterable[str], *, tls13_only: bool) -> tuple[str, ...]:
    """OpenSSL's names of Go's.  Raises ValueError for one that it does not offer any more, or never did."""
    found = []
    for name in names:
        if name in _TLS13_SUITES:
            continue  # always on, as in Go
        if name not in CIPHERS:
            raise ValueError(f"{name!r} must be one of {', '.join((*CIPHERS, *_TLS13_SUITES))}")
        found.append(CIPHERS[name])
    if found and tls13_only:
        raise ValueError("the ciphers of TLS 1.2 do not count with tlsMinVersion VersionTLS13")
    return tuple(dict.fromkeys(found))


def read_server_config(get: ConfigReader, gates: frozenset[str]) -> ServerConfig:
    """How the API on the node is served; `gates` are the feature gates that are on.  Raises ConfigError."""
    certificate, key = get.setting("tlsCertFile"), get.setting("tlsPrivateKeyFile")
    if bool(certificate.value) != bool(key.value):
        raise (certificate if certificate.value else key).error("tlsCertFile and tlsPrivateKeyFile need each other")
    tls13 = get.text("tlsMinVersion") == "VersionTLS13"
    try:
        suites = parse_ciphers(get.typed("tlsCipherSuites", tuple), tls13_only=tls13)
    except ValueError as error:
        raise get.setting("tlsCipherSuites").error(str(error)) from None
    query = get.setting("enableSystemLogQuery")
    if query.value and not get.typed("enableSystemLogHandler", bool):
        raise query.error("enableSystemLogHandler is required for enableSystemLogQuery")
    return ServerConfig(
        enabled=get.typed("enableServer", bool),
        address=get.address("address"),
        port=get.typed("port", int),
        certificate=get.joined_file("tlsCertFile"),
        key=get.joined_file("tlsPrivateKeyFile"),
        bootstrap=get.typed("serverTLSBootstrap", bool),
        tls13_only=tls13,
        ciphers=suites,
        client_ca=get.joined_file("authentication.x509.clientCAFile"),
        token_review=get.typed("authentication.webhook.enabled", bool),
        token_ttl_s=get.typed("authentication.webhook.cacheTTL", float),
        always_allow=get.text("authorization.mode") == "AlwaysAllow",
        allowed_ttl_s=get.typed("authorization.webhook.cacheAuthorizedTTL", float),
        denied_ttl_s=get.typed("authorization.webhook.cacheUnauthorizedTTL", float),
        debugging_handlers=get.typed("enableDebuggingHandlers", bool),
        system_logs=get.typed("enableSystemLogHandler", bool),
        log_queries=bool(query.value),
        profiling=get.typed("enableProfilingHandler", bool),
        debug_flags=get.typed("enableDebugFlagsHandler", bool),
        volume_stats_s=get.typed("volumeStatsAggPeriod", float),
        gates=gates & {CHECKPOINT, FLAGZ, STATUSZ},
        stream_idle_s=get.typed("streamingConnectionIdleTimeout", float),
    )
