"""The agent's configuration: KubeletConfiguration file, kubelet flags and defaults become one frozen AgentConfig.

Before: the command line.  Next: daemon.py, which prints a ConfigError and exits 78, and which calls `load_config`
again at SIGHUP. Effects: reads the file and the host's name.  What is understood is in config_fields.py, how it is
checked in config_reader.py and config_rules.py.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent import config_rules as rules
from agent.config_cluster import ClusterConfig
from agent.config_field import Use
from agent.config_fields import FIELDS, FLAGS
from agent.config_flags import parse_flags
from agent.config_reader import ConfigReader
from agent.config_values import ConfigError, Setting, default_of, parse_config_file
from agent.container_spec.facts import MemoryQos
from agent.images.pull_policy import VerificationPolicy
from agent.logs.policy import LogPolicy
from agent.shutdown.schedule import GroupPeriod

if TYPE_CHECKING:
    from agent.images.provider_config import Provider

__all__ = ["AgentConfig", "ConfigError", "load_config"]

MAX_CONFIG_BYTES = 1 << 20
_UNSET = Setting("")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Everything configurable, checked.  Periods in seconds, paths absolute.

    `node_ip` is what --node-ip says, `node_ips` its parts ("0.0.0.0" and "::" only choose the family). `resolv_conf`
    is "" where pods get no resolver file.  `healthz_port` 0 is off.  Without `shutdown_periods` a shutdown of the node
    is not noticed.  `cluster` counts where it names a kubeconfig.  `given` are the values that were set, by the full
    name of their field.  `notes` name the fields that were set and have no effect, for the daemon to log once.
    """

    config_file: Path | None
    root_dir: Path
    api_socket: Path
    node_name: str
    node_ip: str | None
    node_ips: tuple[str, ...]
    node_labels: Mapping[str, str]
    static_pod_path: Path | None
    file_check_frequency_s: float
    runtime_endpoint: str | None
    image_endpoint: str | None
    runtime_request_timeout_s: float
    pod_logs_dir: Path
    log_policy: LogPolicy
    cgroup_driver: str
    cgroup_root: str
    pod_pids_limit: int
    enforce_node_allocatable: tuple[str, ...]
    allowed_unsafe_sysctls: tuple[str, ...]
    kube_reserved: Mapping[str, str]
    system_reserved: Mapping[str, str]
    kube_reserved_cgroup: str
    system_reserved_cgroup: str
    cluster_dns: tuple[str, ...]
    cluster_domain: str
    resolv_conf: str
    memory_qos: MemoryQos | None
    cluster_trust_bundles: bool
    serialize_image_pulls: bool
    max_parallel_image_pulls: int | None
    registry_pull_qps: int
    registry_burst: int
    image_verification: VerificationPolicy
    credential_providers: tuple[Provider, ...]
    credential_provider_dir: str
    max_pods: int
    healthz_bind_address: str
    healthz_port: int
    crash_loop_max_s: float
    seccomp_default: bool
    cpu_cfs_quota: bool
    single_process_oom_kill: bool | None
    fail_cgroup_v1: bool
    fail_swap_on: bool
    swap_behavior: str
    verbosity: int
    shutdown_periods: tuple[GroupPeriod, ...]
    cluster: ClusterConfig
    given: Mapping[str, object]
    notes: tuple[str, ...]


def load_config(argv: Sequence[str], *, host_name: Callable[[], str] = socket.gethostname) -> AgentConfig:
    """Read flags and the file they name.

    Raises ConfigError for the first problem; SystemExit(0) after --version or --help has been printed.
    """
    flags = parse_flags(argv)
    settings: dict[str, Setting] = {}
    config_file = flags.get("config")
    if config_file is not None and config_file.value:
        path = str(config_file.value)
        settings.update(parse_config_file(_read(path), path))
    gates = [one["featureGates"].value for one in (settings, flags) if "featureGates" in one]
    settings.update(flags)
    if len(gates) == 2:  # a flag says it for the gates that it names, as in the kubelet
        named = {name: value for each in gates if isinstance(each, dict) for name, value in each.items()}
        settings["featureGates"] = dataclasses.replace(flags["featureGates"], value=named)
    return _build(settings, host_name)


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, error.strerror or str(error)) from None


def _build(settings: Mapping[str, Setting], host_name: Callable[[], str]) -> AgentConfig:
    get = ConfigReader(settings)
    root_dir = Path(get.required_path("root-dir"))
    node_ips = get.addresses("node-ip")
    config_file = get.text("config")
    return AgentConfig(
        config_file=Path(config_file) if config_file else None,
        root_dir=root_dir,
        api_socket=Path(get.absolute("api-socket") or root_dir / "agent.sock"),
        node_name=rules.node_name(get, host_name),
        node_ip=",".join(node_ips) or None,
        node_ips=node_ips,
        node_labels=get.labels("node-labels"),
        static_pod_path=get.manifest_directory("staticPodPath"),
        file_check_frequency_s=get.typed("fileCheckFrequency", float),
        runtime_endpoint=get.endpoint("containerRuntimeEndpoint"),
        image_endpoint=get.endpoint("imageServiceEndpoint"),
        runtime_request_timeout_s=get.typed("runtimeRequestTimeout", float),
        pod_logs_dir=Path(get.absolute("podLogsDir")),
        log_policy=rules.log_policy(get),
        cgroup_driver=get.text("cgroupDriver"),
        cgroup_root=get.absolute("cgroupRoot") or "/",
        pod_pids_limit=get.typed("podPidsLimit", int),
        enforce_node_allocatable=rules.enforced(get),
        allowed_unsafe_sysctls=get.sysctls("allowedUnsafeSysctls"),
        kube_reserved=get.reserved("kubeReserved"),
        system_reserved=get.reserved("systemReserved"),
        kube_reserved_cgroup=get.absolute("kubeReservedCgroup"),
        system_reserved_cgroup=get.absolute("systemReservedCgroup"),
        cluster_dns=get.addresses("clusterDNS"),
        cluster_domain=get.domain("clusterDomain"),
        resolv_conf=get.file("resolvConf"),
        memory_qos=rules.memory_qos(get),
        cluster_trust_bundles=rules.cluster_trust_bundles(get),
        serialize_image_pulls=rules.serialize_image_pulls(get),
        registry_pull_qps=get.typed("registryPullQPS", int),
        registry_burst=get.typed("registryBurst", int),
        image_verification=rules.image_verification(get),
        credential_providers=rules.credential_providers(get),
        credential_provider_dir=get.absolute("image-credential-provider-bin-dir"),
        max_parallel_image_pulls=get.optional("maxParallelImagePulls", int),
        max_pods=get.typed("maxPods", int),
        healthz_bind_address=get.address("healthzBindAddress"),
        healthz_port=get.typed("healthzPort", int),
        crash_loop_max_s=get.typed("crashLoopBackOff.maxContainerRestartPeriod", float),
        seccomp_default=get.typed("seccompDefault", bool),
        cpu_cfs_quota=get.typed("cpuCFSQuota", bool),
        single_process_oom_kill=get.optional("singleProcessOOMKill", bool),
        fail_cgroup_v1=get.typed("failCgroupV1", bool),
        fail_swap_on=get.typed("failSwapOn", bool),
        swap_behavior=get.text("memorySwap.swapBehavior"),
        verbosity=get.typed("logging.verbosity", int),
        shutdown_periods=rules.shutdown_periods(get),
        cluster=rules.cluster(get),
        given={name: one.value for name, one in settings.items() if name in FIELDS or name in FLAGS},
        notes=_notes(settings),
    )


def _notes(settings: Mapping[str, Setting]) -> tuple[str, ...]:
    known = {**FIELDS, **FLAGS}
    alone = not settings.get("kubeconfig", _UNSET).value
    notes = []
    for name, setting in settings.items():
        field = known[name]
        if setting.value == default_of(field):
            continue
        if field.use is Use.WITHOUT_EFFECT:
            notes.append(f"{name} has no effect here: {field.note}")
        elif field.joined and alone:
            notes.append(f"{name} has no effect here: there is no API server without --kubeconfig")
    return tuple(notes)
