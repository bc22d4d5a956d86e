"""The fields of KubeletConfiguration and the flags of the kubelet that change nothing here, or are refused: why.

Pure.  Before: nothing.  Next: config_fields.py puts them into the one table.
"""

from __future__ import annotations

from agent.config_field import idle, refused

_GC = "image garbage collection is not supported yet"
_EVICTION = "eviction is not supported yet"

IDLE = (
    *idle(
        "the API server is spoken to in JSON",
        ("contentType", "string", "application/vnd.kubernetes.protobuf", "kube-api-content-type"),
    ),
    *idle(
        "every ConfigMap and Secret that a pod refers to is watched",
        ("configMapAndSecretChangeDetectionStrategy", "string", "Watch", ""),
    ),
    *idle(
        "Python's locks are not profiled",
        ("enableContentionProfiling", "bool", False, "contention-profiling"),
    ),
    *idle(
        "the agent reacts to events and resyncs at its own pace",
        ("syncFrequency", "duration", "1m0s", "sync-frequency"),
    ),
    *idle(
        "the network plugin of the runtime decides",
        ("hairpinMode", "string", "promiscuous-bridge", "hairpin-mode"),
        ("makeIPTablesUtilChains", "bool", True, "make-iptables-util-chains"),
        ("iptablesMasqueradeBit", "int", 14, ""),
        ("iptablesDropBit", "int", 15, ""),
    ),
    *idle(
        "the service unit of the agent decides",
        ("oomScoreAdj", "int", -999, "oom-score-adj"),
        ("maxOpenFiles", "int", 1_000_000, "max-open-files"),
        ("kubeletCgroups", "string", "", "kubelet-cgroups"),
    ),
    *idle("no volume plugin is loaded from a directory", ("volumePluginDir", "string", "", "volume-plugin-dir")),
    *idle("staticPodURL is not supported yet", ("httpCheckFrequency", "duration", "20s", "http-check-frequency")),
    *idle(
        "none of the CPU, memory and topology managers is supported yet",
        ("cpuManagerReconcilePeriod", "duration", "10s", "cpu-manager-reconcile-period"),
        ("topologyManagerScope", "string", "container", "topology-manager-scope"),
    ),
    *idle(
        "the agent logs to the journal or plainly to standard error",
        ("logging.format", "string", "text", "logging-format"),
        ("logging.flushFrequency", "any", "5s", "log-flush-frequency"),
        ("logging.options", "object", None, ""),
    ),
)

REFUSED = (
    *refused(
        "nobody is answered whose name is not known",
        ("authentication.anonymous.enabled", "bool", False, "anonymous-auth"),
    ),
    *refused(
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
        ("tlsCurvePreferences", "list", (), ""),
        ("reservedMemory", "list", (), "reserved-memory"),
        ("tracing", "object", None, ""),
        ("localStorageCapacityIsolation", "bool", True, "local-storage-capacity-isolation"),
        ("userNamespaces", "object", None, ""),
    ),
    *refused(
        _GC,
        ("imageMinimumGCAge", "duration", "2m0s", "minimum-image-ttl-duration"),
        ("imageMaximumGCAge", "duration", "0s", ""),
        ("imageGCHighThresholdPercent", "int", 85, "image-gc-high-threshold"),
        ("imageGCLowThresholdPercent", "int", 80, "image-gc-low-threshold"),
    ),
    *refused(
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

UNUSED_FLAGS = (
    *idle("the service unit of the agent decides", ("runtime-cgroups", "string", "", "runtime-cgroups")),
    *idle(
        "containers are kept as the kubelet's defaults say",
        ("minimum-container-ttl-duration", "duration", "0s", "minimum-container-ttl-duration"),
        ("maximum-dead-containers-per-container", "int", 1, "maximum-dead-containers-per-container"),
        ("maximum-dead-containers", "int", -1, "maximum-dead-containers"),
    ),
    *refused("", ("config-dir", "string", "", "config-dir")),
    *refused("the agent's own lock is in its root directory", ("lock-file", "string", "", "lock-file")),
    *refused("", ("exit-on-lock-contention", "bool", False, "exit-on-lock-contention")),
    *refused("", ("vmodule", "string", "", "vmodule")),
    *refused(
        "removed in Kubernetes 1.35; the runtime's own configuration names the sandbox image",
        ("pod-infra-container-image", "string", "", "pod-infra-container-image"),
    ),
)
