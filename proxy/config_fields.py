"""Every field of KubeProxyConfiguration v1alpha1 and every flag of kube-proxy, with what becomes of it.  Pure data.

Before: nothing.  Next: `proxy.config` reads files and flags by this table; `docs/proxy-configuration.md` prints it.
Source: k8s.io/kube-proxy v0.36 config/v1alpha1 and `kube-proxy --help` of Kubernetes 1.36.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Use(enum.Enum):
    """What a value leads to."""

    USED = "used"
    NO_EFFECT = "accepted, no effect"


class Kind(enum.Enum):
    """How a value is written."""

    STRING = "a string"
    BOOL = "true or false"
    INT = "an integer"
    FLOAT = "a number"
    DURATION = "a duration such as 30s"
    STRINGS = "a list of strings"
    GATES = "a map of feature gates"
    ANY = "anything"


@dataclass(frozen=True, slots=True)
class Field:
    """One setting: `path` in the file ("" = flag only), `flag` without dashes ("" = file only)."""

    path: str
    flag: str
    kind: Kind
    use: Use
    why: str = ""
    """Why it has no effect; for used ones, anything worth knowing."""


_U, _N = Use.USED, Use.NO_EFFECT
_JSON = "JSON is spoken; where that is not among the types, the log says so"
_IPVS = "in mode ipvs"
_NFTABLES = "in mode nftables; without a file the iptables flags of the same names count there"
_WINDOWS = "Windows only"
_GO = "belongs to the Go runtime of the original"
_LOG = "log format and buffering are the journal's business"
_INIT = "writes the kernel settings that need more than CAP_NET_ADMIN and exits; also works beside --config"

FIELDS: tuple[Field, ...] = (
    Field("apiVersion", "", Kind.STRING, _U),
    Field("kind", "", Kind.STRING, _U),
    Field(
        "featureGates",
        "feature-gates",
        Kind.GATES,
        _U,
        "AllowServiceExternalIPs, ComponentFlagz and ComponentStatusz; no other one changes anything",
    ),
    Field("clientConnection.kubeconfig", "kubeconfig", Kind.STRING, _U, "Services come from this API server"),
    Field("clientConnection.acceptContentTypes", "", Kind.STRING, _U, _JSON),
    Field("clientConnection.contentType", "kube-api-content-type", Kind.STRING, _U, _JSON),
    Field("clientConnection.qps", "kube-api-qps", Kind.FLOAT, _U, "5 where none is given, no limit below 0"),
    Field("clientConnection.burst", "kube-api-burst", Kind.INT, _U, "10 where none is given"),
    Field("", "master", Kind.STRING, _U, "comes before the kubeconfig's server; also works beside --config"),
    Field("logging.verbosity", "v", Kind.INT, _U),
    Field(
        "logging.format", "logging-format", Kind.STRING, _U, "text, or json: a line of JSON for each record, on stderr"
    ),
    Field("logging.flushFrequency", "log-flush-frequency", Kind.ANY, _N, _LOG),
    Field("logging.vmodule", "vmodule", Kind.ANY, _N, "there are no Go files to choose from"),
    Field("logging.options", "", Kind.ANY, _N, _LOG),
    Field("", "log-json-info-buffer-size", Kind.STRING, _N, _LOG),
    Field("", "log-json-split-stream", Kind.BOOL, _N, _LOG),
    Field("", "log-text-info-buffer-size", Kind.STRING, _N, _LOG),
    Field("", "log-text-split-stream", Kind.BOOL, _N, _LOG),
    Field("hostnameOverride", "hostname-override", Kind.STRING, _U, "the flag also works beside --config"),
    Field("bindAddress", "bind-address", Kind.STRING, _U, "the node's primary address; nothing is bound to it"),
    Field("healthzBindAddress", "healthz-bind-address", Kind.STRING, _U),
    Field("", "healthz-port", Kind.INT, _U, "deprecated; 0 turns the server off"),
    Field("metricsBindAddress", "metrics-bind-address", Kind.STRING, _U),
    Field("", "metrics-port", Kind.INT, _U, "deprecated; 0 turns the server off"),
    Field("bindAddressHardFail", "bind-address-hard-fail", Kind.BOOL, _U),
    Field("enableProfiling", "profiling", Kind.BOOL, _N, _GO),
    Field(
        "showHiddenMetricsForVersion",
        "show-hidden-metrics-for-version",
        Kind.STRING,
        _U,
        "no metric is hidden: 1.35 or nothing",
    ),
    Field("mode", "proxy-mode", Kind.STRING, _U, "iptables, which is also what an empty value means, nftables or ipvs"),
    Field("iptables.masqueradeBit", "iptables-masquerade-bit", Kind.INT, _U),
    Field("iptables.masqueradeAll", "masquerade-all", Kind.BOOL, _U),
    Field("iptables.localhostNodePorts", "iptables-localhost-nodeports", Kind.BOOL, _U),
    Field("iptables.syncPeriod", "iptables-sync-period", Kind.DURATION, _U),
    Field("iptables.minSyncPeriod", "iptables-min-sync-period", Kind.DURATION, _U),
    Field("ipvs.syncPeriod", "ipvs-sync-period", Kind.DURATION, _U, _IPVS),
    Field("ipvs.minSyncPeriod", "ipvs-min-sync-period", Kind.DURATION, _U, _IPVS),
    Field("ipvs.scheduler", "ipvs-scheduler", Kind.STRING, _U, _IPVS),
    Field("ipvs.excludeCIDRs", "ipvs-exclude-cidrs", Kind.STRINGS, _U, _IPVS),
    Field("ipvs.strictARP", "ipvs-strict-arp", Kind.BOOL, _U, _IPVS),
    Field("ipvs.tcpTimeout", "ipvs-tcp-timeout", Kind.DURATION, _U, _IPVS),
    Field("ipvs.tcpFinTimeout", "ipvs-tcpfin-timeout", Kind.DURATION, _U, _IPVS),
    Field("ipvs.udpTimeout", "ipvs-udp-timeout", Kind.DURATION, _U, _IPVS),
    Field("nftables.masqueradeBit", "", Kind.INT, _U, _NFTABLES),
    Field("nftables.masqueradeAll", "", Kind.BOOL, _U, _NFTABLES),
    Field("nftables.syncPeriod", "", Kind.DURATION, _U, _NFTABLES),
    Field("nftables.minSyncPeriod", "", Kind.DURATION, _U, _NFTABLES),
    Field("winkernel.networkName", "", Kind.STRING, _N, _WINDOWS),
    Field("winkernel.sourceVip", "", Kind.STRING, _N, _WINDOWS),
    Field("winkernel.enableDSR", "", Kind.BOOL, _N, _WINDOWS),
    Field("winkernel.rootHnsEndpointName", "", Kind.STRING, _N, _WINDOWS),
    Field("winkernel.forwardHealthCheckVip", "", Kind.BOOL, _N, _WINDOWS),
    Field("windowsRunAsService", "", Kind.BOOL, _N, _WINDOWS),
    Field("detectLocalMode", "detect-local-mode", Kind.STRING, _U, "NodeCIDR needs an API server"),
    Field("detectLocal.bridgeInterface", "pod-bridge-interface", Kind.STRING, _U),
    Field("detectLocal.interfaceNamePrefix", "pod-interface-name-prefix", Kind.STRING, _U),
    Field("clusterCIDR", "cluster-cidr", Kind.STRING, _U),
    Field(
        "nodePortAddresses",
        "nodeport-addresses",
        Kind.STRINGS,
        _U,
        "`primary`, or CIDRs of either family; in mode nftables `primary` where none is given",
    ),
    Field("oomScoreAdj", "oom-score-adj", Kind.INT, _U),
    Field("conntrack.maxPerCore", "conntrack-max-per-core", Kind.INT, _U, "times the cores, up to 1048576 in all"),
    Field("conntrack.min", "conntrack-min", Kind.INT, _U),
    Field("conntrack.tcpEstablishedTimeout", "conntrack-tcp-timeout-established", Kind.DURATION, _U),
    Field("conntrack.tcpCloseWaitTimeout", "conntrack-tcp-timeout-close-wait", Kind.DURATION, _U),
    Field("conntrack.tcpBeLiberal", "conntrack-tcp-be-liberal", Kind.BOOL, _U),
    Field("conntrack.udpTimeout", "conntrack-udp-timeout", Kind.DURATION, _U),
    Field("conntrack.udpStreamTimeout", "conntrack-udp-timeout-stream", Kind.DURATION, _U),
    Field("configSyncPeriod", "config-sync-period", Kind.DURATION, _N, "watches tell of every change"),
    Field("portRange", "", Kind.STRING, _N, "belonged to the userspace mode, which is gone"),
    Field("", "init-only", Kind.BOOL, _U, _INIT),
    Field("", "write-config-to", Kind.STRING, _U, "writes the configuration in force to this file and exits"),
    Field("", "config", Kind.STRING, _U),
    Field("", "cleanup", Kind.BOOL, _U, "removes every rule of ours and exits"),
    Field("", "node-labels", Kind.STRING, _U, "ours: topology.kubernetes.io/zone says this node's zone"),
    Field("", "deny-service-external-ips", Kind.BOOL, _U, "ours: spec.externalIPs is not programmed"),
    Field("", "manifest-dir", Kind.STRING, _U, "ours: directory of Service and EndpointSlice files"),
    Field("", "agent-socket", Kind.STRING, _U, "ours: where the agent tells its pods"),
    Field("", "api-socket", Kind.STRING, _U, "ours: where this proxy tells its services"),
    Field(
        "offline.directory",
        "offline-dir",
        Kind.STRING,
        _U,
        "ours: keeps there, sealed, what the API server told last; counts while it is away",
    ),
)

BY_PATH = {field.path: field for field in FIELDS if field.path}
BY_FLAG = {field.flag: field for field in FIELDS if field.flag}

# Flags that also count beside --config; kube-proxy ignores all the others then.
BESIDE_CONFIG = frozenset(
    {"config", "cleanup", "master", "hostname-override", "v", "manifest-dir", "agent-socket", "api-socket",
     "offline-dir", "node-labels", "deny-service-external-ips", "init-only", "write-config-to"}
)  # fmt: skip
