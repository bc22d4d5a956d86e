"""The agent's configuration: KubeletConfiguration file, kubelet flags and defaults become one frozen AgentConfig.

Before: the command line.  Next: daemon.py, which prints a ConfigError and exits 78, and which calls `load_config`
again at SIGHUP. Effects: reads the file, the host's name and whether named directories exist.  What is understood is
in config_fields.py.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeVar

from agent.config_cluster import ClusterConfig, parse_taints
from agent.config_fields import FIELDS, FLAGS, Use
from agent.config_flags import parse_flags
from agent.config_values import ConfigError, Setting, default_of, parse_config_file
from agent.container_spec.facts import MemoryQos
from agent.container_spec.sysctls import pattern_problem
from agent.feature_gates import MEMORY_QOS, resolve_gates
from agent.images.pull_policy import NEVER_VERIFY_ALLOWLISTED, VerificationPolicy, allowlist_problem
from agent.logs.policy import LogPolicy
from agent.node.labels import forbidden_labels_problem
from agent.shutdown.schedule import GroupPeriod, parse_periods, resolve_periods
from kube_objects.names import is_dns_subdomain, is_label_value, is_qualified_name
from kube_objects.quantity import parse_quantity

if TYPE_CHECKING:
    from agent.images.provider_config import Provider

__all__ = ["AgentConfig", "ConfigError", "load_config"]

MAX_CONFIG_BYTES = 1 << 20
RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
ENFORCEABLE = (
    "pods",
    "system-reserved",
    "kube-reserved",
    "system-reserved-compressible",
    "kube-reserved-compressible",
    "none",
)

T = TypeVar("T")
_UNSET = Setting("")


def load_providers(path: str, programs: str) -> tuple[Provider, ...]:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """Everything configurable, checked.  Periods in seconds, paths absolute.

    `node_ip` is what --node-ip says, `node_ips` its parts ("0.0.0.0" and "::" only choose the family). `resolv_conf`
    is "" where pods get no resolver file.  `healthz_port` 0 is off.  Without `shutdown_periods` a shutdown of the node
    is not noticed.  `cluster` counts where it names a kubeconfig.  `notes` name the fields that were set and have no
    effect, for the daemon to log once.
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
        settings.update(parse_config_file(_read(path, config_file), path))
    gates = [one["featureGates"].value for one in (settings, flags) if "featureGates" in one]
    settings.update(flags)
    if len(gates) == 2:  # a flag says it for the gates that it names, as in the kubelet
        named = {name: value for each in gates if isinstance(each, dict) for name, value in each.items()}
        settings["featureGates"] = dataclasses.replace(flags["featureGates"], value=named)
    return _build(settings, host_name)


def _read(path: str, setting: Setting) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, error.strerror or str(error)) from None


def _build(settings: Mapping[str, Setting], host_name: Callable[[], str]) -> AgentConfig:
    get = _Getter(settings)
    root_dir = Path(get.required_path("root-dir"))
    node_ips = get.addresses("node-ip")
    config_file = get.text("config")
    return AgentConfig(
        config_file=Path(config_file) if config_file else None,
        root_dir=root_dir,
        api_socket=Path(get.absolute("api-socket") or root_dir / "agent.sock"),
        node_name=get.node_name(host_name),
        node_ip=",".join(node_ips) or None,
        node_ips=node_ips,
        node_labels=get.labels("node-labels"),
        static_pod_path=get.directory("staticPodPath"),
        file_check_frequency_s=get.typed("fileCheckFrequency", float),
        runtime_endpoint=get.endpoint("containerRuntimeEndpoint"),
        image_endpoint=get.endpoint("imageServiceEndpoint"),
        runtime_request_timeout_s=get.typed("runtimeRequestTimeout", float),
        pod_logs_dir=Path(get.absolute("podLogsDir")),
        log_policy=get.log_policy(),
        cgroup_driver=get.text("cgroupDriver"),
        cgroup_root=get.absolute("cgroupRoot") or "/",
        pod_pids_limit=get.typed("podPidsLimit", int),
        enforce_node_allocatable=get.enforced(),
        allowed_unsafe_sysctls=get.sysctls("allowedUnsafeSysctls"),
        kube_reserved=get.reserved("kubeReserved"),
        system_reserved=get.reserved("systemReserved"),
        kube_reserved_cgroup=get.absolute("kubeReservedCgroup"),
        system_reserved_cgroup=get.absolute("systemReservedCgroup"),
        cluster_dns=get.addresses("clusterDNS"),
        cluster_domain=get.domain("clusterDomain"),
        resolv_conf=get.file("resolvConf"),
        memory_qos=get.memory_qos(),
        serialize_image_pulls=get.serialize_image_pulls(),
        registry_pull_qps=get.typed("registryPullQPS", int),
        registry_burst=get.typed("registryBurst", int),
        image_verification=get.image_verification(),
        credential_providers=get.credential_providers(),
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
        shutdown_periods=get.shutdown_periods(),
        cluster=get.cluster(),
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


class _Getter:
    """Typed access to the settings: each method checks one shape of value and names its place in the error."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        self._settings = settings

    def setting(self, name: str) -> Setting:
        field = FIELDS.get(name) or FLAGS[name]
        return self._settings.get(name) or Setting(default_of(field), field=name)

    def typed(self, name: str, kind: type[T]) -> T:
        value = self.setting(name).value
        if not isinstance(value, kind):
            raise TypeError(f"the table of fields gives {name} the wrong kind: {value!r}")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        return None if self.setting(name).value is None else self.typed(name, kind)

    def text(self, name: str) -> str:
        return self.typed(name, str)

    def absolute(self, name: str) -> str:
        text = self.text(name)
        if text and (not text.startswith("/") or ".." in text.split("/")):
            raise self.setting(name).error(f"{text!r} must be an absolute path without '..'")
        return str(PurePosixPath(text)) if text else ""

    def required_path(self, name: str) -> str:
        text = self.absolute(name)
        if not text:
            raise self.setting(name).error("must be an absolute path, not empty")
        return text

    def directory(self, name: str) -> Path | None:
        text = self.absolute(name)
        if not text:
            return None
        path = Path(text)
        if not path.exists():
            raise self.setting(name).error(f"directory {text} does not exist")
        if not path.is_dir():
            raise self.setting(name).error(f"{text} is not a directory")
        return path

    def file(self, name: str) -> str:
        text = self.absolute(name)
        if text and name in self._settings and not Path(text).exists():
            raise self.setting(name).error(f"file {text} does not exist")
        return text

    def endpoint(self, name: str) -> str | None:
        text = self.text(name)
        if text and not text.startswith(("unix:///", "/")):
            raise self.setting(name).error(f"{text!r} must be a socket such as unix:///run/containerd/containerd.sock")
        return text or None

    def addresses(self, name: str) -> tuple[str, ...]:
        setting = self.setting(name)
        value = setting.value
        words = tuple(value) if isinstance(value, tuple) else tuple(part for part in str(value).split(",") if part)
        for word in words:
            try:
                ipaddress.ip_address(word)
            except ValueError:
                raise setting.error(f"{word!r} is not an IP address") from None
        families = [ipaddress.ip_address(word).version for word in words]
        if name == "node-ip" and len(set(families)) != len(families):
            raise setting.error("must be one address, or one of each family")
        return words

    def address(self, name: str) -> str:
        words = self.addresses(name)
        if len(words) != 1:
            raise self.setting(name).error(f"must be one IP address, not {self.setting(name).value!r}")
        return words[0]

    def domain(self, name: str) -> str:
        text = self.text(name).removesuffix(".")
        if text and (problem := is_dns_subdomain(text)):
            raise self.setting(name).error(problem)
        return text

    def labels(self, name: str) -> dict[str, str]:
        setting = self.setting(name)
        labels: dict[str, str] = dict(setting.value) if isinstance(setting.value, dict) else {}
        for key, value in labels.items():
            if problem := is_qualified_name(key) or is_label_value(value):
                raise setting.error(problem)
        if problem := forbidden_labels_problem(labels):
            raise setting.error(problem)
        return labels

    def sysctls(self, name: str) -> tuple[str, ...]:
        setting = self.setting(name)
        patterns = tuple(setting.value) if isinstance(setting.value, tuple) else ()
        for pattern in patterns:
            if problem := pattern_problem(pattern):
                raise setting.error(problem)
        return patterns

    def reserved(self, name: str) -> dict[str, str]:
        setting = self.setting(name)
        amounts: dict[str, str] = dict(setting.value) if isinstance(setting.value, dict) else {}
        for key, amount in amounts.items():
            if key not in RESERVABLE:
                raise setting.error(f"{key!r} cannot be reserved, only {', '.join(RESERVABLE)}")
            try:
                if parse_quantity(amount).value < 0:
                    raise ValueError(f"{key} must not be negative, not {amount}")
            except ValueError as error:
                raise setting.error(str(error)) from None
        return amounts

    def enforced(self) -> tuple[str, ...]:
        """What of enforceNodeAllocatable is to be enforced; each reservation needs its cgroup."""
        setting = self.setting("enforceNodeAllocatable")
        words = tuple(word for word in (setting.value if isinstance(setting.value, tuple) else ()) if word)
        for word in words:
            if word not in ENFORCEABLE:
                raise setting.error(f"{word!r} must be one of {', '.join(ENFORCEABLE)}")
            field = {"kube": "kubeReservedCgroup", "system": "systemReservedCgroup"}.get(word.partition("-")[0])
            if field and not self.absolute(field):
                raise setting.error(f"{word} needs {field}")
        if "none" in words and len(words) > 1:
            raise setting.error("none must stand alone")
        return tuple(word for word in words if word != "none")

    def node_name(self, host_name: Callable[[], str]) -> str:
        setting = self.setting("hostname-override")
        name = (str(setting.value) or host_name()).strip().lower()
        if problem := is_dns_subdomain(name):
            raise Setting(name, setting.where or "host name").error(f"as the node's name it {problem}")
        return name

    def cluster(self) -> ClusterConfig:
        """How the node is joined to a cluster, if it is."""
        taints, kubeconfig = self.setting("registerWithTaints"), self.absolute("kubeconfig")
        bootstrap = self.absolute("bootstrap-kubeconfig")
        if bootstrap and not kubeconfig:
            raise self.setting("bootstrap-kubeconfig").error("needs --kubeconfig, which is the file that it makes")
        report, update_s = self.setting("nodeStatusReportFrequency"), self.typed("nodeStatusUpdateFrequency", float)
        update = self._settings.get("nodeStatusUpdateFrequency")
        # As in the kubelet the file's value of the one is the default of the other; a flag's is not.
        follows = "nodeStatusReportFrequency" not in self._settings and update is not None and update.line is not None
        try:
            parsed = parse_taints(taints.value)
        except ValueError as error:
            raise taints.error(str(error)) from None
        return ClusterConfig(
            kubeconfig=Path(kubeconfig) if kubeconfig else None,
            bootstrap_kubeconfig=Path(bootstrap) if bootstrap else None,
            cert_dir=Path(self.required_path("cert-dir")),
            rotate=self.typed("rotateCertificates", bool),
            register_node=self.typed("registerNode", bool),
            taints=parsed,
            external_cloud=self.text("cloud-provider") == "external",
            provider_id=self.text("providerID"),
            status_update_s=update_s,
            status_report_s=update_s if follows else float(str(report.value)),
            lease_duration_s=self.typed("nodeLeaseDurationSeconds", int),
            max_images=self.typed("nodeStatusMaxImages", int),
            qps=self.typed("kubeAPIQPS", int),
            burst=self.typed("kubeAPIBurst", int),
            attach_detach=self.typed("enableControllerAttachDetach", bool),
            event_qps=self.typed("eventRecordQPS", int),
            event_burst=self.typed("eventBurst", int),
        )

    def shutdown_periods(self) -> tuple[GroupPeriod, ...]:
        """The groups of pods that end together, lowest priority first."""
        total_s, critical_s = (
            self.typed("shutdownGracePeriod", float),
            self.typed("shutdownGracePeriodCriticalPods", float),
        )
        if critical_s > total_s:
            message = f"must not be more than shutdownGracePeriod ({total_s:g} s)"
            raise self.setting("shutdownGracePeriodCriticalPods").error(message)
        listed = self.setting("shutdownGracePeriodByPodPriority")
        if not listed.value:
            return resolve_periods(total_s, critical_s)
        if total_s:
            raise listed.error("must not be set together with shutdownGracePeriod")
        try:
            return parse_periods(listed.value)
        except ValueError as error:
            raise listed.error(str(error)) from None

    def log_policy(self) -> LogPolicy:
        """When and how the logs of containers are rotated."""
        try:
            max_bytes = parse_quantity(self.text("containerLogMaxSize")).bytes()
        except ValueError as error:
            raise self.setting("containerLogMaxSize").error(str(error)) from None
        return LogPolicy(
            max_bytes,
            self.typed("containerLogMaxFiles", int),
            self.typed("containerLogMaxWorkers", int),
            self.typed("containerLogMonitorInterval", float),
        )

    def gates(self) -> frozenset[str]:
        """The feature gates that are on, of those that change something here."""
        setting = self.setting("featureGates")
        try:
            return resolve_gates(setting.value if isinstance(setting.value, dict) else {})
        except ValueError as error:
            raise setting.error(str(error)) from None

    def memory_qos(self) -> MemoryQos | None:
        """How containers are slowed down before they reach their limit; None: not at all."""
        factor, tiered = self.typed("memoryThrottlingFactor", float), self.text("memoryReservationPolicy") != "None"
        if not 0 < factor <= 1:
            message = f"must be greater than 0 and less than or equal to 1, not {factor:g}"
            raise self.setting("memoryThrottlingFactor").error(message)
        if MEMORY_QOS in self.gates():
            return MemoryQos(factor, tiered)
        if tiered:
            raise self.setting("memoryReservationPolicy").error(f"needs the feature gate {MEMORY_QOS}")
        return None

    def image_verification(self) -> VerificationPolicy:
        """When a pod must show that it may use an image that is on the node already."""
        policy, listed = self.text("imagePullCredentialsVerificationPolicy"), "preloadedImagesVerificationAllowlist"
        patterns = self.typed(listed, tuple)
        if patterns and policy != NEVER_VERIFY_ALLOWLISTED:
            needs = f"counts only with imagePullCredentialsVerificationPolicy {NEVER_VERIFY_ALLOWLISTED}, not {policy}"
            raise self.setting(listed).error(needs)
        for pattern in patterns:
            if problem := allowlist_problem(pattern):
                raise self.setting(listed).error(problem)
        return VerificationPolicy(policy, patterns)

    def credential_providers(self) -> tuple[Provider, ...]:
        """The plugins of the file, or of the files of a directory in the order of their names."""
        setting, directory = self.setting("image-credential-provider-config"), "image-credential-provider-bin-dir"
        path, programs = self.absolute("image-credential-provider-config"), self.absolute(directory)
        if bool(path) != bool(programs):
            raise (setting if path else self.setting(directory)).error(
                "--image-credential-provider-config and --image-credential-provider-bin-dir need each other"
            )
        return load_providers(path, programs) if path else ()

    def serialize_image_pulls(self) -> bool:
        parallel = self.optional("maxParallelImagePulls", int)
        if "serializeImagePulls" not in self._settings:
            return parallel is None or parallel < 2
        serialize = self.typed("serializeImagePulls", bool)
        if serialize and parallel is not None and parallel > 1:
            message = "must not be more than 1 unless serializeImagePulls is false"
            raise self.setting("maxParallelImagePulls").error(message)
        return serialize
