"""Every field of KubeletConfiguration and every flag of the kubelet, and what this agent does with it: the one table
of it.

Pure.  Before: nothing.  Next: config_values.py reads files and flags by this table, docs/agent-configuration.md shows
it (a test compares).  Upstream: kubelet.config.k8s.io/v1beta1 and `kubelet --help` of Kubernetes 1.36, with their
defaults.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.config_field import ConfigField, joined, used
from agent.config_server_fields import SERVER
from agent.config_unused import IDLE, REFUSED, UNUSED_FLAGS
from agent.images.pull_policy import POLICIES

GROUP_VERSION = "kubelet.config.k8s.io/v1beta1"
KIND = "KubeletConfiguration"


_USED = (
    used(
        "staticPodPath",
        "string",
        "",
        "pod-manifest-path",
        note="a directory that exists, or, with --kubeconfig, may later; empty for none",
    ),
    used("podLogsDir", "string", "/var/log/pods"),
    used("fileCheckFrequency", "duration", "20s", "file-check-frequency", minimum=0.1, note="the slow rescan"),
    used("healthzPort", "int", 10248, "healthz-port", zero_is_default=False, minimum=0, maximum=65535, note="0 is off"),
    used("healthzBindAddress", "string", "127.0.0.1", "healthz-bind-address"),
    used("clusterDomain", "string", "", "cluster-domain"),
    used("clusterDNS", "strings", (), "cluster-dns"),
    used(
        "resolvConf",
        "string",
        "/etc/resolv.conf",
        "resolv-conf",
        zero_is_default=False,
        note='"" gives pods no resolver',
    ),
    used("cgroupRoot", "string", "", "cgroup-root"),
    used(
        "cgroupDriver",
        "string",
        "cgroupfs",
        "cgroup-driver",
        choices=("cgroupfs", "systemd"),
        note="only where the runtime does not say its own (containerd 1.x)",
    ),
    used(
        "podPidsLimit", "int", -1, "pod-max-pids", zero_is_default=False, minimum=-1, note="processes of a pod; -1: any"
    ),
    used(
        "enforceNodeAllocatable",
        "strings",
        ("pods",),
        "enforce-node-allocatable",
        note="pods, kube-reserved, system-reserved (or either with -compressible), or none",
    ),
    used(
        "allowedUnsafeSysctls", "strings", (), "allowed-unsafe-sysctls", note="names, or the beginning of one and `*`"
    ),
    used("kubeReserved", "map", {}, "kube-reserved", note="cpu, memory, ephemeral-storage, pid"),
    used("systemReserved", "map", {}, "system-reserved", note="cpu, memory, ephemeral-storage, pid"),
    used("kubeReservedCgroup", "string", "", "kube-reserved-cgroup"),
    used("systemReservedCgroup", "string", "", "system-reserved-cgroup"),
    used(
        "containerLogMaxSize",
        "string",
        "10Mi",
        "container-log-max-size",
        note="from this size on a container's log is rotated; negative: never",
    ),
    used(
        "containerLogMaxFiles",
        "int",
        5,
        "container-log-max-files",
        zero_is_default=False,
        minimum=2,
        note="with the present one; the older ones are packed",
    ),
    used("containerLogMaxWorkers", "int", 1, zero_is_default=False, minimum=1, note="logs rotated at the same time"),
    used(
        "containerLogMonitorInterval",
        "duration",
        "10s",
        zero_is_default=False,
        minimum=3,
        note="how often logs are looked at",
    ),
    used("runtimeRequestTimeout", "duration", "2m0s", "runtime-request-timeout", minimum=1),
    used("maxPods", "int", 110, "max-pods", minimum=1),
    used("serializeImagePulls", "bool", True, "serialize-image-pulls", zero_is_default=False),
    used(
        "registryPullQPS",
        "int",
        5,
        "registry-qps",
        zero_is_default=False,
        minimum=0,
        note="pulls that may begin in a second, further ones fail (`pull QPS exceeded`); 0: any",
    ),
    used("registryBurst", "int", 10, "registry-burst", minimum=1, note="and so many at once after a quiet time"),
    used("maxParallelImagePulls", "int", None, minimum=1, zero_is_default=False),
    used(
        "imagePullCredentialsVerificationPolicy",
        "string",
        "NeverVerifyPreloadedImages",
        choices=POLICIES,
        note="when a pod must show that it may use an image that is on the node",
    ),
    used(
        "preloadedImagesVerificationAllowlist",
        "strings",
        (),
        note="with NeverVerifyAllowlistedImages: names without tag, or the beginning of one and `/*`",
    ),
    used("seccompDefault", "bool", False, "seccomp-default"),
    used(
        "featureGates",
        "gates",
        None,
        "feature-gates",
        zero_is_default=False,
        note="all of 1.36 at their defaults; only MemoryQoS and ClusterTrustBundleProjection may differ",
    ),
    used(
        "memoryThrottlingFactor",
        "float",
        0.9,
        zero_is_default=False,
        note="with MemoryQoS: memory.high lies so far between a container's request and its limit",
    ),
    used(
        "memoryReservationPolicy",
        "string",
        "None",
        choices=("None", "TieredReservation"),
        note="with MemoryQoS: TieredReservation keeps what pods ask for (memory.min, memory.low)",
    ),
    used("cpuCFSQuota", "bool", True, "cpu-cfs-quota", zero_is_default=False),
    used("singleProcessOOMKill", "bool", None, zero_is_default=False),
    used(
        "failCgroupV1",
        "bool",
        True,
        "fail-cgroupv1",
        zero_is_default=False,
        note="the agent does not start on a host with cgroup v1 unless false",
    ),
    used(
        "failSwapOn",
        "bool",
        True,
        "fail-swap-on",
        zero_is_default=False,
        note="the agent does not start on a host that swaps unless false",
    ),
    used(
        "memorySwap.swapBehavior",
        "string",
        "NoSwap",
        choices=("NoSwap", "LimitedSwap"),
        note="LimitedSwap gives none to critical pods, which static pods are",
    ),
    used(
        "containerRuntimeEndpoint",
        "string",
        "",
        "container-runtime-endpoint",
        note="empty: the first well-known socket",
    ),
    used("imageServiceEndpoint", "string", "", "image-service-endpoint", note="empty: containerRuntimeEndpoint"),
    used(
        "crashLoopBackOff.maxContainerRestartPeriod", "duration", "5m0s", zero_is_default=False, minimum=1, maximum=300
    ),
    used("logging.verbosity", "int", 0, "v", minimum=0),
    used("shutdownGracePeriod", "duration", "0s", minimum=1, note="0 is off; see docs/shutdown.md"),
    used("shutdownGracePeriodCriticalPods", "duration", "0s", minimum=1, note="the last part of shutdownGracePeriod"),
    used("shutdownGracePeriodByPodPriority", "list", (), note="instead of the other two"),
)

_JOINED = (
    joined("registerNode", "bool", True, "register-node", note="make the Node, or take over the one that is there"),
    joined(
        "registerWithTaints",
        "list",
        (),
        "register-with-taints",
        note="taints of a Node that is made, as a flag KEY=VALUE:EFFECT,...; what is there keeps its own",
    ),
    joined("providerID", "string", "", "provider-id", note="spec.providerID of a Node that is made"),
    joined(
        "nodeStatusUpdateFrequency",
        "duration",
        "10s",
        "node-status-update-frequency",
        minimum=0.1,
        note="how often the node looks at itself; a status is only written when something changed",
    ),
    joined(
        "nodeStatusReportFrequency",
        "duration",
        "5m0s",
        minimum=0.1,
        note="how often the status is written without a change; nodeStatusUpdateFrequency where only that is set",
    ),
    joined(
        "nodeLeaseDurationSeconds",
        "int",
        40,
        minimum=1,
        zero_is_default=True,
        note="the Lease of the node is renewed every quarter of it",
    ),
    joined(
        "nodeStatusMaxImages",
        "int",
        50,
        "node-status-max-images",
        minimum=-1,
        note="the biggest images that the status lists; -1: all",
    ),
    joined(
        "rotateCertificates",
        "bool",
        False,
        "rotate-certificates",
        note="ask for a new client certificate after 70 to 90 % of the life of the present one",
    ),
    joined("kubeAPIQPS", "int", 50, "kube-api-qps", minimum=0, note="requests a second, on average; 0: 5"),
    joined("eventRecordQPS", "int", 50, "event-qps", minimum=0, note="events a second, on average; 0: any"),
    joined("eventBurst", "int", 100, "event-burst", minimum=0, note="and so many at once; 0: 10"),
    joined("kubeAPIBurst", "int", 100, "kube-api-burst", minimum=0, note="and so many at once; 0: 10"),
    joined(
        "enableControllerAttachDetach",
        "bool",
        True,
        "enable-controller-attach-detach",
        note="the annotation of the Node that asks the controller for it",
    ),
    joined(
        "offline.enabled",
        "bool",
        False,
        note="not the kubelet's: what the API server told last is kept, sealed, and counts while it is away",
    ),
)

FIELDS: Mapping[str, ConfigField] = {one.name: one for one in (*_USED, *_JOINED, *SERVER, *IDLE, *REFUSED)}

# Flags that are no field of the file.
FLAGS: Mapping[str, ConfigField] = {
    one.flag: one
    for one in (
        used("config", "string", "", "config", note="the KubeletConfiguration file"),
        used("root-dir", "string", "/var/lib/longshore", "root-dir", note="the kubelet's default is /var/lib/kubelet"),
        used(
            "hostname-override", "string", "", "hostname-override", note="the node's name; else the host's, lower case"
        ),
        used("node-ip", "string", "", "node-ip", note="one address, or one of each family with a comma"),
        used(
            "node-labels",
            "map",
            {},
            "node-labels",
            note="labels of the Node, and what nodeSelector of static pods is checked against",
        ),
        used("kubeconfig", "string", "", "kubeconfig", note="joins the cluster that it names; docs/cluster.md"),
        joined(
            "bootstrap-kubeconfig",
            "string",
            "",
            "bootstrap-kubeconfig",
            note="where --kubeconfig names no file, or its certificate has expired: ask for one with this token",
        ),
        joined(
            "cert-dir",
            "string",
            "/var/lib/kubelet/pki",
            "cert-dir",
            note="the client certificates that were asked for; kubelet-client-current.pem is the present one",
        ),
        joined(
            "cloud-provider",
            "string",
            "",
            "cloud-provider",
            choices=("", "external"),
            note="external: a controller of the cloud says the addresses of the Node and takes its taint away",
        ),
        used("api-socket", "string", "", "api-socket", note="the local API; by default ROOT-DIR/agent.sock"),
        used(
            "image-credential-provider-config",
            "string",
            "",
            "image-credential-provider-config",
            note="the plugins' configuration: a file, or a directory of them",
        ),
        used(
            "image-credential-provider-bin-dir",
            "string",
            "",
            "image-credential-provider-bin-dir",
            note="where their programs are",
        ),
        *UNUSED_FLAGS,
    )
}

BY_FLAG: Mapping[str, ConfigField] = {**{one.flag: one for one in FIELDS.values() if one.flag}, **FLAGS}
