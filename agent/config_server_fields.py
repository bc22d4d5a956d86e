"""The fields of the HTTPS API on the node, as config_fields.py has the others.

Pure.  Before: nothing.  Next: config_fields.py puts the tables together, config_server.py reads the values.
"""

from __future__ import annotations

from agent.config_field import joined

SERVER = (
    joined("enableServer", "bool", True, "enable-server", note="the API on the node; docs/api-10250.md"),
    joined("address", "string", "0.0.0.0", "address", zero_is_default=True, note="where it listens"),
    joined("port", "int", 10250, "port", minimum=1, maximum=65535, zero_is_default=True),
    joined(
        "tlsCertFile",
        "string",
        "",
        "tls-cert-file",
        note="with tlsPrivateKeyFile; without them kubelet.crt and kubelet.key of --cert-dir, made where there is none",
    ),
    joined("tlsPrivateKeyFile", "string", "", "tls-private-key-file"),
    joined(
        "serverTLSBootstrap",
        "bool",
        False,
        "rotate-server-certificates",
        note="the cluster signs the certificate (kubernetes.io/kubelet-serving); none signs itself",
    ),
    joined("tlsCipherSuites", "strings", (), "tls-cipher-suites", note="for TLS 1.2, by their names in Go"),
    joined(
        "tlsMinVersion",
        "string",
        "",
        "tls-min-version",
        choices=("", "VersionTLS12", "VersionTLS13"),
        note="TLS 1.2 where it is empty; older ones are not spoken",
    ),
    joined(
        "authentication.x509.clientCAFile",
        "string",
        "",
        "client-ca-file",
        note="who signs the certificates of clients; read again when it changes",
    ),
    joined("authentication.webhook.enabled", "bool", True, "authentication-token-webhook", note="TokenReview"),
    joined(
        "authentication.webhook.cacheTTL",
        "duration",
        "2m0s",
        "authentication-token-webhook-cache-ttl",
        minimum=0,
    ),
    joined(
        "authorization.mode",
        "string",
        "Webhook",
        "authorization-mode",
        choices=("AlwaysAllow", "Webhook"),
        zero_is_default=True,
        note="Webhook: SubjectAccessReview",
    ),
    joined(
        "authorization.webhook.cacheAuthorizedTTL",
        "duration",
        "5m0s",
        "authorization-webhook-cache-authorized-ttl",
        minimum=0,
    ),
    joined(
        "authorization.webhook.cacheUnauthorizedTTL",
        "duration",
        "30s",
        "authorization-webhook-cache-unauthorized-ttl",
        minimum=0,
    ),
    joined(
        "enableDebuggingHandlers",
        "bool",
        True,
        "enable-debugging-handlers",
        note="logs, exec, attach, port-forward, run, runningpods, configz, checkpoint, debug, statusz, flagz",
    ),
    joined("enableProfilingHandler", "bool", True, note="/debug/pprof"),
    joined("enableDebugFlagsHandler", "bool", True, note="/debug/flags/v"),
    joined("enableSystemLogHandler", "bool", True, note="/logs: files below /var/log"),
    joined(
        "enableSystemLogQuery",
        "bool",
        False,
        note="/logs/?query=: the journal of services; needs enableSystemLogHandler",
    ),
    joined(
        "streamingConnectionIdleTimeout",
        "duration",
        "4h0m0s",
        "streaming-connection-idle-timeout",
        minimum=1,
        note="a stream in which nothing moves for so long ends",
    ),
    joined(
        "volumeStatsAggPeriod",
        "duration",
        "1m0s",
        "volume-stats-agg-period",
        zero_is_default=True,
        note="how old the numbers of volumes may be in /stats/summary and /metrics; negative: volumes are not measured",
    ),
)
