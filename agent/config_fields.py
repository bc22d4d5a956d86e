"""Every field of KubeletConfiguration and every flag of the kubelet, and what this agent does with it: the one table
of it.

Pure.  Before: nothing.  Next: config_values.py reads files and flags by this table, docs/agent-configuration.md shows
it (a test compares).  Upstream: kubelet.config.k8s.io/v1beta1 and `kubelet --help` of Kubernetes 1.36, with their
defaults.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from agent.images.pull_policy import POLICIES

GROUP_VERSION = "kubelet.config.k8s.io/v1beta1"
KIND = "KubeletConfiguration"


class Use(enum.Enum):
    """What the agent does with a value that is not the default."""

    USED = "used"
    WITHOUT_EFFECT = "accepted, without effect here"
    REFUSED = "refused, not supported yet"


@dataclass(frozen=True)
class ConfigField:
    """One field.  `kind`: string, bool, int, float, duration, size, strings, map, gates or object.
    `flag`: its name without
    dashes.

    `zero_is_default`: 0, "" or false in a file means the default (a field that is no pointer upstream).
    """

    name: str
    kind: str
    default: object
    use: Use
    note: str = ""
    flag: str = ""
    zero_is_default: bool = True
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    joined: bool = False
    """Only with --kubeconfig; without it the agent notes that it has no effect."""


_SERVER = "there is no HTTPS API on the node yet"
_GC = "image garbage collection is not supported yet"
_EVICTION = "eviction is not supported yet"

# Refused fields where a zero in the file is a value of its own, not the default.
_POINTERS = frozenset(
    {
        "cgroupsPerQOS",
        "cpuCFSQuotaPeriod",
        "imageGCHighThresholdPercent",
        "imageGCLowThresholdPercent",
        "localStorageCapacityIsolation",
    }
)


def _used(name: str, kind: str, default: object, flag: str = "", **more: object) -> ConfigField:
    return ConfigField(name, kind, default, Use.USED, flag=flag, **more)  # type: ignore[arg-type]  # checked by a test


def _joined(name: str, kind: str, default: object, flag: str = "", **more: object) -> ConfigField:
    more.setdefault("zero_is_default", kind == "duration")
    return _used(name, kind, default, flag, joined=True, **more)


def _idle(note: str, *rows: tuple[str, str, object, str]) -> tuple[ConfigField, ...]:
    return tuple(
        ConfigField(name, kind, default, Use.WITHOUT_EFFECT, note, flag, zero_is_default=kind != "bool")
        for name, kind, default, flag in rows
    )


def _refused(note: str, *rows: tuple[str, str, object, str]) -> tuple[ConfigField, ...]:
    return tuple(
        ConfigField(name, kind, default, Use.REFUSED, note, flag, zero_is_default=name not in _POINTERS)
        for name, kind, default, flag in rows
    )


_USED = (
    _used("staticPodPath", "string", "", "pod-manifest-path", note="a directory that exists; empty for none"),
    _used("podLogsDir", "string", "/var/log/pods"),
    _used("fileCheckFrequency", "duration", "20s", "file-check-frequency", minimum=0.1, note="the slow rescan"),
    _used(
        "healthzPort", "int", 10248, "healthz-port", zero_is_default=False, minimum=0, maximum=65535, note="0 is off"
    ),
    _used("healthzBindAddress", "string", "127.0.0.1", "healthz-bind-address"),
    _used("clusterDomain", "string", "", "cluster-domain"),
    _used("clusterDNS", "strings", (), "cluster-dns"),
    _used(
        "resolvConf",
        "string",
        "/etc/resolv.conf",
        "resolv-conf",
        zero_is_default=False,
        note='"" gives pods no resolver',
    ),
    _used("cgroupRoot", "string", "", "cgroup-root"),
    _used(
        "cgroupDriver",
        "string",
        "cgroupfs",
        "cgroup-driver",
        choices=("cgroupfs", "systemd"),
        note="only where the runtime does not say its own (containerd 1.x)",
    ),
    _used(
        "podPidsLimit", "int", -1, "pod-max-pids", zero_is_default=False, minimum=-1, note="processes of a pod; -1: any"
    ),
    _used(
        "enforceNodeAllocatable",
        "strings",
        ("pods",),
        "enforce-node-allocatable",
        note="pods, kube-reserved, system-reserved (or either with -compressible), or none",
    ),
    _used(
        "allowedUnsafeSysctls", "strings", (), "allowed-unsafe-sysctls", note="names, or the beginning of one and `*`"
    ),
    _used("kubeReserved", "map", {}, "kube-reserved", note="cpu, memory, ephemeral-storage, pid"),
    _used("systemReserved", "map", {}, "system-reserved", note="cpu, memory, ephemeral-storage, pid"),
    _used("kubeReservedCgroup", "string", "", "kube-reserved-cgroup"),
    _used("systemReservedCgroup", "string", "", "system-reserved-cgroup"),
    _used(
        "containerLogMaxSize",
        "string",
        "10Mi",
        "container-log-max-size",
        note="from this size on a container's log is rotated; negative: never",
    ),
    _used(
        "containerLogMaxFiles",
        "int",
        5,
        "container-log-max-files",
        zero_is_default=False,
        minimum=2,
        note="with the present one; the older ones are packed",
    ),
    _used("containerLogMaxWorkers", "int", 1, zero_is_default=False, minimum=1, note="logs rotated at the same time"),
    _used(
        "containerLogMonitorInterval",
        "duration",
        "10s",
        zero_is_default=False,
        minimum=3,
        note="how often logs are looked at",
    ),
    _used("runtimeRequestTimeout", "duration", "2m0s", "runtime-request-timeout", minimum=1),
    _used("maxPods", "int", 110, "max-pods", minimum=1),
    _used("serializeImagePulls", "bool", True, "serialize-image-pulls", zero_is_default=False),
    _used(
        "registryPullQPS",
        "int",
        5,
        "registry-qps",
        zero_is_default=False,
        minimum=0,
        note="pulls that may begin in a second, further ones fail (`pull QPS exceeded`); 0: any",
    ),
    _used("registryBurst", "int", 10, "registry-burst", minimum=1, note="and so many at once after a quiet time"),
    _used("maxParallelImagePulls", "int", None, minimum=1, zero_is_default=False),
    _used(
        "imagePullCredentialsVerificationPolicy",
        "string",
        "NeverVerifyPreloadedImages",
        choices=POLICIES,
        note="when a pod must show that it may use an image that is on the node",
    ),
    _used(
        "preloadedImagesVerificationAllowlist",
        "strings",
        (),
        note="with NeverVerifyAllowlistedImages: names without tag, or the beginning of one and `/*`",
    ),
    _used("seccompDefault", "bool", False, "seccomp-default"),
    _used(
        "featureGates",
        "gates",
        None,
        "feature-gates",
        zero_is_default=False,
        note="all of 1.36 at their defaults; of what differs only MemoryQoS is supported",
    ),
    _used(
        "memoryThrottlingFactor",
        "float",
        0.9,
        zero_is_default=False,
        note="with MemoryQoS: memory.high lies so far between a container's request and its limit",
    ),
    _used(
        "memoryReservationPolicy",
        "string",
        "None",
        choices=("None", "TieredReservation"),
        note="with MemoryQoS: TieredReservation keeps what pods ask for (memory.min, memory.low)",
    ),
    _used("cpuCFSQuota", "bool", True, "cpu-cfs-quota", zero_is_default=False),
    _used("singleProcessOOMKill", "bool", None, zero_is_default=False),
    _used(
        "failCgroupV1",
        "bool",
        True,
        "fail-cgroupv1",
        zero_is_default=False,
        note="the agent does not start on a host with cgroup v1 unless false",
    ),
    _used(
        "failSwapOn",
        "bool",
        True,
        "fail-swap-on",
        zero_is_default=False,
        note="the agent does not start on a host that swaps unless false",
    ),
    _used(
        "memorySwap.swapBehavior",
        "string",
        "NoSwap",
        choices=("NoSwap", "LimitedSwap"),
        note="LimitedSwap gives none to critical pods, which static pods are",
    ),
    _used(
        "containerRuntimeEndpoint",
        "string",
        "",
        "container-runtime-endpoint",
        note="empty: the first well-known socket",
    ),
    _used("imageServiceEndpoint", "string", "", "image-service-endpoint", note="empty: containerRuntimeEndpoint"),
    _used(
        "crashLoopBackOff.maxContainerRestartPeriod", "duration", "5m0s", zero_is_default=False, minimum=1, maximum=300
    ),
    _used("logging.verbosity", "int", 0, "v", minimum=0),
    _used("shutdownGracePeriod", "duration", "0s", minimum=1, note="0 is off; see docs/shutdown.md"),
    _used("shutdownGracePeriodCriticalPods", "duration", "0s", minimum=1, note="the last part of shutdownGracePeriod"),
    _used("shutdownGracePeriodByPodPriority", "list", (), note="instead of the other two"),
)

_JOINED = (
    _joined("registerNode", "bool", True, "register-node", note="make the Node, or take over the one that is there"),
    _joined(
        "registerWithTaints",
        "list",
        (),
        "register-with-taints",
        note="taints of a Node that is made, as a flag KEY=VALUE:EFFECT,...; what is there keeps its own",
    ),
    _joined("providerID", "string", "", "provider-id", note="spec.providerID of a Node that is made"),
    _joined(
        "nodeStatusUpdateFrequency",
        "duration",
        "10s",
        "node-status-update-frequency",
        minimum=0.1,
        note="how often the node looks at itself; a status is only written when something changed",
    ),
    _joined(
        "nodeStatusReportFrequency",
        "duration",
        "5m0s",
        minimum=0.1,
        note="how often the status is written without a change; nodeStatusUpdateFrequency where only that is set",
    ),
    _joined(
        "nodeLeaseDurationSeconds",
        "int",
        40,
        minimum=1,
        zero_is_default=True,
        note="the Lease of the node is renewed every quarter of it",
    ),
    _joined(
        "nodeStatusMaxImages",
        "int",
        50,
        "node-status-max-images",
        minimum=-1,
        note="the biggest images that the status lists; -1: all",
    ),
    _joined(
        "rotateCertificates",
        "bool",
        False,
        "rotate-certificates",
        note="ask for a new client certificate after 70 to 90 % of the life of the present one",
    ),
    _joined("kubeAPIQPS", "int", 50, "kube-api-qps", minimum=0, note="requests a second, on average; 0: 5"),
    _joined("eventRecordQPS", "int", 50, "event-qps", minimum=0, note="events a second, on average; 0: any"),
    _joined("eventBurst", "int", 100, "event-burst", minimum=0, note="and so many at once; 0: 10"),
    _joined("kubeAPIBurst", "int", 100, "kube-api-burst", minimum=0, note="and so many at once; 0: 10"),
    _joined(
        "enableControllerAttachDetach",
        "bool",
        True,
        "enable-controller-attach-detach",
        note="the annotation of the Node that asks the controller for it",
    ),
)

_IDLE = (
    *_idle(
        "the API server is spoken to in JSON",
        ("contentType", "string", "application/vnd.kubernetes.protobuf", "kube-api-content-type"),
    ),
    *_idle(
        "every ConfigMap and Secret that a pod refers to is watched",
        ("configMapAndSecretChangeDetectionStrategy", "string", "Watch", ""),
    ),
    *_idle(
        _SERVER,
        ("enableServer", "bool", True, "enable-server"),
        ("serverTLSBootstrap", "bool", False, "rotate-server-certificates"),
        ("address", "string", "0.0.0.0", "address"),
        ("port", "int", 10250, "port"),
        ("tlsCertFile", "string", "", "tls-cert-file"),
        ("tlsPrivateKeyFile", "string", "", "tls-private-key-file"),
        ("tlsCipherSuites", "strings", (), "tls-cipher-suites"),
        ("tlsCurvePreferences", "list", (), ""),
        ("tlsMinVersion", "string", "", "tls-min-version"),
        ("authentication.x509.clientCAFile", "string", "", "client-ca-file"),
        ("authentication.webhook.enabled", "bool", True, "authentication-token-webhook"),
        ("authentication.webhook.cacheTTL", "duration", "2m0s", "authentication-token-webhook-cache-ttl"),
        ("authentication.anonymous.enabled", "bool", False, "anonymous-auth"),
        ("authorization.mode", "string", "Webhook", "authorization-mode"),
        ("authorization.webhook.cacheAuthorizedTTL", "duration", "5m0s", "authorization-webhook-cache-authorized-ttl"),
        (
            "authorization.webhook.cacheUnauthorizedTTL",
            "duration",
            "30s",
            "authorization-webhook-cache-unauthorized-ttl",
        ),
        ("enableDebuggingHandlers", "bool", True, "enable-debugging-handlers"),
        ("enableContentionProfiling", "bool", False, "contention-profiling"),
        ("streamingConnectionIdleTimeout", "duration", "4h0m0s", "streaming-connection-idle-timeout"),
        ("enableSystemLogHandler", "bool", True, ""),
        ("enableProfilingHandler", "bool", True, ""),
        ("enableDebugFlagsHandler", "bool", True, ""),
    ),
    *_idle(
        "the agent reacts to events and resyncs at its own pace",
        ("syncFrequency", "duration", "1m0s", "sync-frequency"),
        ("volumeStatsAggPeriod", "duration", "1m0s", "volume-stats-agg-period"),
    ),
    *_idle(
        "the network plugin of the runtime decides",
        ("hairpinMode", "string", "promiscuous-bridge", "hairpin-mode"),
        ("makeIPTablesUtilChains", "bool", True, "make-iptables-util-chains"),
        ("iptablesMasqueradeBit", "int", 14, ""),
        ("iptablesDropBit", "int", 15, ""),
    ),
    *_idle(
        "the service unit of the agent decides",
        ("oomScoreAdj", "int", -999, "oom-score-adj"),
        ("maxOpenFiles", "int", 1_000_000, "max-open-files"),
        ("kubeletCgroups", "string", "", "kubelet-cgroups"),
    ),
    *_idle("no volume plugin is loaded from a directory", ("volumePluginDir", "string", "", "volume-plugin-dir")),
    *_idle("staticPodURL is not supported yet", ("httpCheckFrequency", "duration", "20s", "http-check-frequency")),
    *_idle(
        "none of the CPU, memory and topology managers is supported yet",
        ("cpuManagerReconcilePeriod", "duration", "10s", "cpu-manager-reconcile-period"),
        ("topologyManagerScope", "string", "container", "topology-manager-scope"),
    ),
    *_idle(
        "the agent logs to the journal or plainly to standard error",
        ("logging.format", "string", "text", "logging-format"),
        ("logging.flushFrequency", "any", "5s", "log-flush-frequency"),
        ("logging.options", "object", None, ""),
    ),
)

_REFUSED = (
    *_refused(
        "",
        ("staticPodURL", "string", "", "manifest-url"),
        ("staticPodURLHeader", "object", None, "manifest-url-header"),
        ("readOnlyPort", "int", 0, "read-only-port"),
        ("systemCgroups", "string", "", "system-cgroups"),
        ("cgroupsPerQOS", "bool", True, "cgroups-per-qos"),
        ("cpuManagerPolicy", "string", "none", "cpu-manager-policy"),
        ("cpuManagerPolicyOptions", "map", {}, "cpu-manager-policy-options"),
        ("memoryManagerPolicy", "string", "None", "memory-manager-policy"),
        ("topologyManagerPolicy", "string", "none", "topology-manager-policy"),
        ("topologyManagerPolicyOptions", "map", {}, "topology-manager-policy-options"),
        ("qosReserved", "map", {}, "qos-reserved"),
        ("podCIDR", "string", "", "pod-cidr"),
        ("runOnce", "bool", False, "runonce"),
        ("cpuCFSQuotaPeriod", "duration", "100ms", "cpu-cfs-quota-period"),
        ("podsPerCore", "int", 0, "pods-per-core"),
        ("protectKernelDefaults", "bool", False, "protect-kernel-defaults"),
        ("reservedSystemCPUs", "string", "", "reserved-cpus"),
        ("showHiddenMetricsForVersion", "string", "", ""),
        ("kernelMemcgNotification", "bool", False, "kernel-memcg-notification"),
        ("enableSystemLogQuery", "bool", False, ""),
        ("reservedMemory", "list", (), "reserved-memory"),
        ("tracing", "object", None, ""),
        ("localStorageCapacityIsolation", "bool", True, "local-storage-capacity-isolation"),
        ("userNamespaces", "object", None, ""),
    ),
    *_refused(
        _GC,
        ("imageMinimumGCAge", "duration", "2m0s", "minimum-image-ttl-duration"),
        ("imageMaximumGCAge", "duration", "0s", ""),
        ("imageGCHighThresholdPercent", "int", 85, "image-gc-high-threshold"),
        ("imageGCLowThresholdPercent", "int", 80, "image-gc-low-threshold"),
    ),
    *_refused(
        _EVICTION,
        ("evictionHard", "map", {}, "eviction-hard"),
        ("evictionSoft", "map", {}, "eviction-soft"),
        ("evictionSoftGracePeriod", "map", {}, "eviction-soft-grace-period"),
        ("evictionPressureTransitionPeriod", "duration", "5m0s", "eviction-pressure-transition-period"),
        ("evictionMaxPodGracePeriod", "int", 0, "eviction-max-pod-grace-period"),
        ("evictionMinimumReclaim", "map", {}, "eviction-minimum-reclaim"),
        ("mergeDefaultEvictionSettings", "bool", False, ""),
    ),
)

FIELDS: Mapping[str, ConfigField] = {one.name: one for one in (*_USED, *_JOINED, *_IDLE, *_REFUSED)}

# Flags that are no field of the file.
FLAGS: Mapping[str, ConfigField] = {
    one.flag: one
    for one in (
        _used("config", "string", "", "config", note="the KubeletConfiguration file"),
        _used("root-dir", "string", "/var/lib/longshore", "root-dir", note="the kubelet's default is /var/lib/kubelet"),
        _used(
            "hostname-override", "string", "", "hostname-override", note="the node's name; else the host's, lower case"
        ),
        _used("node-ip", "string", "", "node-ip", note="one address, or one of each family with a comma"),
        _used("node-labels", "map", {}, "node-labels", note="checked by nodeSelector of static pods"),
        _used("kubeconfig", "string", "", "kubeconfig", note="joins the cluster that it names; docs/cluster.md"),
        _joined(
            "bootstrap-kubeconfig",
            "string",
            "",
            "bootstrap-kubeconfig",
            note="where --kubeconfig names no file, or its certificate has expired: ask for one with this token",
        ),
        _joined(
            "cert-dir",
            "string",
            "/var/lib/kubelet/pki",
            "cert-dir",
            note="the client certificates that were asked for; kubelet-client-current.pem is the present one",
        ),
        _joined(
            "cloud-provider",
            "string",
            "",
            "cloud-provider",
            choices=("", "external"),
            note="external: a controller of the cloud says the addresses of the Node and takes its taint away",
        ),
        _used("api-socket", "string", "", "api-socket", note="the local API; by default ROOT-DIR/agent.sock"),
        *_idle("the service unit of the agent decides", ("runtime-cgroups", "string", "", "runtime-cgroups")),
        *_idle(
            "containers are kept as the kubelet's defaults say",
            ("minimum-container-ttl-duration", "duration", "0s", "minimum-container-ttl-duration"),
            ("maximum-dead-containers-per-container", "int", 1, "maximum-dead-containers-per-container"),
            ("maximum-dead-containers", "int", -1, "maximum-dead-containers"),
        ),
        *_refused("", ("config-dir", "string", "", "config-dir")),
        *_refused("the agent's own lock is in its root directory", ("lock-file", "string", "", "lock-file")),
        *_refused("", ("exit-on-lock-contention", "bool", False, "exit-on-lock-contention")),
        _used(
            "image-credential-provider-config",
            "string",
            "",
            "image-credential-provider-config",
            note="the plugins' configuration: a file, or a directory of them",
        ),
        _used(
            "image-credential-provider-bin-dir",
            "string",
            "",
            "image-credential-provider-bin-dir",
            note="where their programs are",
        ),
        *_refused("", ("vmodule", "string", "", "vmodule")),
        *_refused(
            "removed in Kubernetes 1.35; the runtime's own configuration names the sandbox image",
            ("pod-infra-container-image", "string", "", "pod-infra-container-image"),
        ),
    )
}

BY_FLAG: Mapping[str, ConfigField] = {**{one.flag: one for one in FIELDS.values() if one.flag}, **FLAGS}
