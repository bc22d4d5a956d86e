"""What several fields of the configuration together come to, and which of them contradict each other.

Before: config_reader.py checks each by itself.  Next: config.py puts AgentConfig together.  Every error names the place
of its value.  Effects: reads the configuration of credential provider plugins.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config_cluster import ClusterConfig, parse_taints
from agent.config_reader import ConfigReader
from agent.config_server import read_server_config
from agent.config_values import ConfigError, Setting
from agent.container_spec.facts import MemoryQos
from agent.feature_gates import MEMORY_QOS, TRUST_BUNDLES, resolve_gates
from agent.images.pull_policy import NEVER_VERIFY_ALLOWLISTED, VerificationPolicy, allowlist_problem
from agent.logs.policy import LogPolicy
from agent.shutdown.schedule import GroupPeriod, parse_periods, resolve_periods
from kube_objects.names import is_dns_subdomain
from kube_objects.quantity import parse_quantity

if TYPE_CHECKING:
    from agent.images.provider_config import Provider

ENFORCEABLE = (
    "pods",
    "system-reserved",
    "kube-reserved",
    "system-reserved-compressible",
    "kube-reserved-compressible",
    "none",
)


def enforced(get: ConfigReader) -> tuple[str, ...]:
    """What of enforceNodeAllocatable is to be enforced; each reservation needs its cgroup."""
    setting = get.setting("enforceNodeAllocatable")
    words = tuple(word for word in (setting.value if isinstance(setting.value, tuple) else ()) if word)
    for word in words:
        if word not in ENFORCEABLE:
            raise setting.error(f"{word!r} must be one of {', '.join(ENFORCEABLE)}")
        field = {"kube": "kubeReservedCgroup", "system": "systemReservedCgroup"}.get(word.partition("-")[0])
        if field and not get.absolute(field):
            raise setting.error(f"{word} needs {field}")
    if "none" in words and len(words) > 1:
        raise setting.error("none must stand alone")
    return tuple(word for word in words if word != "none")


def node_name(get: ConfigReader, host_name: Callable[[], str]) -> str:
    """What --hostname-override says, else the host's own name."""
    setting = get.setting("hostname-override")
    name = (str(setting.value) or host_name()).strip().lower()
    if problem := is_dns_subdomain(name):
        raise Setting(name, setting.where or "host name").error(f"as the node's name it {problem}")
    return name


def cluster(get: ConfigReader) -> ClusterConfig:
    """How the node is joined to a cluster, if it is."""
    taints, kubeconfig = get.setting("registerWithTaints"), get.absolute("kubeconfig")
    bootstrap = get.absolute("bootstrap-kubeconfig")
    if bootstrap and not kubeconfig:
        raise get.setting("bootstrap-kubeconfig").error("needs --kubeconfig, which is the file that it makes")
    report, update_s = get.setting("nodeStatusReportFrequency"), get.typed("nodeStatusUpdateFrequency", float)
    update = get.settings.get("nodeStatusUpdateFrequency")
    # As in the kubelet the file's value of the one is the default of the other; a flag's is not.
    follows = "nodeStatusReportFrequency" not in get.settings and update is not None and update.line is not None
    try:
        parsed = parse_taints(taints.value)
    except ValueError as error:
        raise taints.error(str(error)) from None
    return ClusterConfig(
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        bootstrap_kubeconfig=Path(bootstrap) if bootstrap else None,
        cert_dir=Path(get.required_path("cert-dir")),
        rotate=get.typed("rotateCertificates", bool),
        register_node=get.typed("registerNode", bool),
        taints=parsed,
        external_cloud=get.text("cloud-provider") == "external",
        provider_id=get.text("providerID"),
        status_update_s=update_s,
        status_report_s=update_s if follows else float(str(report.value)),
        lease_duration_s=get.typed("nodeLeaseDurationSeconds", int),
        max_images=get.typed("nodeStatusMaxImages", int),
        qps=get.typed("kubeAPIQPS", int),
        burst=get.typed("kubeAPIBurst", int),
        attach_detach=get.typed("enableControllerAttachDetach", bool),
        event_qps=get.typed("eventRecordQPS", int),
        event_burst=get.typed("eventBurst", int),
        offline=get.typed("offline.enabled", bool),
        server=read_server_config(get, _gates(get)),
    )


def shutdown_periods(get: ConfigReader) -> tuple[GroupPeriod, ...]:
    """The groups of pods that end together, lowest priority first."""
    total_s, critical_s = (
        get.typed("shutdownGracePeriod", float),
        get.typed("shutdownGracePeriodCriticalPods", float),
    )
    if critical_s > total_s:
        message = f"must not be more than shutdownGracePeriod ({total_s:g} s)"
        raise get.setting("shutdownGracePeriodCriticalPods").error(message)
    listed = get.setting("shutdownGracePeriodByPodPriority")
    if not listed.value:
        return resolve_periods(total_s, critical_s)
    if total_s:
        raise listed.error("must not be set together with shutdownGracePeriod")
    try:
        return parse_periods(listed.value)
    except ValueError as error:
        raise listed.error(str(error)) from None


def log_policy(get: ConfigReader) -> LogPolicy:
    """When and how the logs of containers are rotated."""
    try:
        max_bytes = parse_quantity(get.text("containerLogMaxSize")).bytes()
    except ValueError as error:
        raise get.setting("containerLogMaxSize").error(str(error)) from None
    return LogPolicy(
        max_bytes,
        get.typed("containerLogMaxFiles", int),
        get.typed("containerLogMaxWorkers", int),
        get.typed("containerLogMonitorInterval", float),
    )


def _gates(get: ConfigReader) -> frozenset[str]:
    """The feature gates that are on, of those that change something here."""
    setting = get.setting("featureGates")
    try:
        return resolve_gates(setting.value if isinstance(setting.value, dict) else {})
    except ValueError as error:
        raise setting.error(str(error)) from None


def memory_qos(get: ConfigReader) -> MemoryQos | None:
    """How containers are slowed down before they reach their limit; None: not at all."""
    factor, tiered = get.typed("memoryThrottlingFactor", float), get.text("memoryReservationPolicy") != "None"
    if not 0 < factor <= 1:
        message = f"must be greater than 0 and less than or equal to 1, not {factor:g}"
        raise get.setting("memoryThrottlingFactor").error(message)
    if MEMORY_QOS in _gates(get):
        return MemoryQos(factor, tiered)
    if tiered:
        raise get.setting("memoryReservationPolicy").error(f"needs the feature gate {MEMORY_QOS}")
    return None


def cluster_trust_bundles(get: ConfigReader) -> bool:
    """Whether volumes may have certificates of ClusterTrustBundles."""
    return TRUST_BUNDLES in _gates(get)


def image_verification(get: ConfigReader) -> VerificationPolicy:
    """When a pod must show that it may use an image that is on the node already."""
    policy, listed = get.text("imagePullCredentialsVerificationPolicy"), "preloadedImagesVerificationAllowlist"
    patterns = get.typed(listed, tuple)
    if patterns and policy != NEVER_VERIFY_ALLOWLISTED:
        needs = f"counts only with imagePullCredentialsVerificationPolicy {NEVER_VERIFY_ALLOWLISTED}, not {policy}"
        raise get.setting(listed).error(needs)
    for pattern in patterns:
        if problem := allowlist_problem(pattern):
            raise get.setting(listed).error(problem)
    return VerificationPolicy(policy, patterns)


def credential_providers(get: ConfigReader) -> tuple[Provider, ...]:
    """The plugins of the file, or of the files of a directory in the order of their names."""
    setting, directory = get.setting("image-credential-provider-config"), "image-credential-provider-bin-dir"
    path, programs = get.absolute("image-credential-provider-config"), get.absolute(directory)
    if bool(path) != bool(programs):
        raise (setting if path else get.setting(directory)).error(
            "--image-credential-provider-config and --image-credential-provider-bin-dir need each other"
        )
    return _load_providers(path, programs) if path else ()


def serialize_image_pulls(get: ConfigReader) -> bool:
    """Whether one image is pulled after the other: the default unless several at a time are asked for."""
    parallel = get.optional("maxParallelImagePulls", int)
    if "serializeImagePulls" not in get.settings:
        return parallel is None or parallel < 2
    serialize = get.typed("serializeImagePulls", bool)
    if serialize and parallel is not None and parallel > 1:
        message = "must not be more than 1 unless serializeImagePulls is false"
        raise get.setting("maxParallelImagePulls").error(message)
    return serialize


def _load_providers(path: str, programs: str) -> tuple[Provider, ...]:
    """Read the configuration of credential provider plugins.  Raises ConfigError."""
    from agent.images.provider_config import parse_provider_config

    place = Path(path)
    suffixes = (".yaml", ".yml", ".json")
    found: list[Provider] = []
    try:
        files = sorted(one for one in place.iterdir() if one.suffix in suffixes) if place.is_dir() else [place]
        for file in files:
            try:
                found += parse_provider_config(file.read_bytes())
            except ValueError as error:
                raise ConfigError(str(file), str(error)) from None
    except OSError as error:
        raise ConfigError(path, error.strerror or str(error)) from None
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(path, f"duplicate plugin {name!r}")
        if not os.access(Path(programs) / name, os.X_OK):
            raise ConfigError(path, f"plugin {name!r} is no program in {programs}")
    return tuple(found)
