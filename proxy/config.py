"""Flags and KubeProxyConfiguration file -> `ProxyConfig`.

Before: the command line.  Next: `proxy.assembly` builds all from the value.  SIGHUP calls `load_config` again with
the same arguments.  Reads one file, otherwise pure.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kube_objects.names import is_label_value, is_qualified_name
from proxy.config_api import ApiAccess, content_type_warnings, read_access
from proxy.config_fields import BESIDE_CONFIG, BY_FLAG
from proxy.config_kernel import ConntrackConfig, read_cidr, read_conntrack, read_ipvs
from proxy.config_reader import Reader
from proxy.config_values import ConfigError, Setting, read_file, read_flags
from proxy.ipvs.model import IpvsSettings

DEFAULT_MANIFEST_DIR = "/etc/longshore/services"
DEFAULT_AGENT_SOCKET = "/var/lib/longshore/agent.sock"
DEFAULT_API_SOCKET = "/run/longshore/proxy.sock"
_HEALTHZ_PORT = 10256
_INTERFACE_LENGTH = 15
_METRICS_PORT = 10249
PREVIOUS_RELEASE = "1.35"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProxyConfig:
    """Everything a person can decide about the proxy, checked and defaulted."""

    manifest_dir: Path = Path(DEFAULT_MANIFEST_DIR)
    manifest_dir_given: bool = False
    """With an API server the directory is read only where it was asked for."""
    api: ApiAccess = field(default_factory=ApiAccess)
    agent_socket: Path | None = Path(DEFAULT_AGENT_SOCKET)
    api_socket: Path = Path(DEFAULT_API_SOCKET)
    node_name: str = "localhost"
    bind_address: str = "0.0.0.0"
    healthz_bind: tuple[str, int] | None = ("0.0.0.0", _HEALTHZ_PORT)
    metrics_bind: tuple[str, int] | None = ("127.0.0.1", _METRICS_PORT)
    bind_address_hard_fail: bool = False
    mode: str = "iptables"
    masquerade_bit: int = 14
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    sync_period_s: float = 30.0
    min_sync_period_s: float = 1.0
    detect_local_mode: str = "ClusterCIDR"
    cluster_cidrs: tuple[str, ...] = ()
    """At most one of each IP family."""
    pod_bridge: str = ""
    pod_interface_prefix: str = ""
    node_port_addresses: tuple[str, ...] = ()
    """CIDRs, or the single word "primary", which is what mode nftables takes where nothing is given; a family without
    any accepts node ports on every local address.
    """
    zone: str = ""
    """Label topology.kubernetes.io/zone of this node; "" when unknown."""
    deny_external_ips: bool = False
    oom_score_adj: int = -999
    conntrack: ConntrackConfig = field(default_factory=ConntrackConfig)
    ipvs: IpvsSettings = field(default_factory=IpvsSettings)
    verbosity: int = 0
    log_as_json: bool = False
    cleanup: bool = False
    init_only: bool = False
    """Write the kernel settings that need more than CAP_NET_ADMIN, and exit."""
    write_config_to: Path | None = None
    """Write the configuration in force there, and exit."""
    given: Mapping[str, object] = field(default_factory=dict, compare=False)
    """What somebody gave, by path in the file or name of the flag: durations are seconds, lists are tuples."""
    config_file: Path | None = None
    warnings: tuple[str, ...] = ()


def load_config(argv: Sequence[str]) -> ProxyConfig:
    """Read the command line and the file it names.

    Raises ConfigError whose text is `file:line: field: message` or `flag --name: message`.  `--help` and `--version`
    print and raise SystemExit(0).
    """
    flags = read_flags(argv)
    file = flags["config"].value if "config" in flags else ""
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Setting]
    if file:
        ignored = sorted(name for name in flags if name not in BESIDE_CONFIG)
        if ignored:
            names = ", ".join(f"--{name}" for name in ignored)
            warnings = (f"ignoring {names}: the configuration file {file} decides (as kube-proxy does)",)
        settings = {**read_file(Path(str(file))), **{n: s for n, s in _keyed(flags).items() if n in _BESIDE_KEYS}}
    else:
        settings = _keyed(flags)
    built = _build(Reader(settings), bool(file), warnings)
    return replace(built, given={name: setting.value for name, setting in settings.items()})


def _keyed(flags: Mapping[str, Setting]) -> dict[str, Setting]:
    """By path in the file where there is one, else by flag name."""
    return {BY_FLAG[name].path or name: setting for name, setting in flags.items()}


_BESIDE_KEYS = frozenset(BY_FLAG[name].path or name for name in BESIDE_CONFIG)


def _build(read: Reader, from_file: bool, warnings: tuple[str, ...]) -> ProxyConfig:
    bind_address = read.check("bindAddress", _is_ip_or_empty, "is not an IP address") or "0.0.0.0"
    mode = _mode(read)
    _hidden_metrics(read)
    # A file has a section for each mode; the flags named after iptables count in mode nftables too, as kube-proxy's do.
    section = "nftables" if mode == "nftables" and from_file else "iptables"
    # Mode ipvs has periods of its own, but masquerades as the section iptables says.
    sync_s, min_sync_s = _periods(read, "ipvs" if mode == "ipvs" else section, from_file)
    agent_socket = read.text("agent-socket", DEFAULT_AGENT_SOCKET)
    local = "127.0.0.1" if ipaddress.ip_address(bind_address).version == 4 else "::1"
    everywhere = "0.0.0.0" if local == "127.0.0.1" else "::"
    return ProxyConfig(
        manifest_dir=Path(read.text("manifest-dir") or DEFAULT_MANIFEST_DIR),
        manifest_dir_given=bool(read.text("manifest-dir")),
        api=read_access(read),
        agent_socket=Path(agent_socket) if agent_socket else None,
        api_socket=Path(read.text("api-socket") or DEFAULT_API_SOCKET),
        node_name=_node_name(read),
        bind_address=bind_address,
        healthz_bind=_listen(read, "healthz", (everywhere, _HEALTHZ_PORT), from_file),
        metrics_bind=_listen(read, "metrics", (local, _METRICS_PORT), from_file),
        bind_address_hard_fail=read.flag("bindAddressHardFail"),
        mode=mode,
        masquerade_bit=read.number(f"{section}.masqueradeBit", 14, 0, 31),
        masquerade_all=read.flag(f"{section}.masqueradeAll"),
        localhost_node_ports=read.flag("iptables.localhostNodePorts", default=True),
        sync_period_s=sync_s,
        min_sync_period_s=min_sync_s,
        detect_local_mode=_detect_local_mode(read),
        cluster_cidrs=_cluster_cidrs(read),
        pod_bridge=_interface(read, "detectLocal.bridgeInterface", "BridgeInterface"),
        pod_interface_prefix=_interface(read, "detectLocal.interfaceNamePrefix", "InterfaceNamePrefix"),
        node_port_addresses=_node_port_addresses(read) or (("primary",) if mode == "nftables" else ()),
        zone=_node_labels(read).get("topology.kubernetes.io/zone", ""),
        deny_external_ips=read.flag("deny-service-external-ips") or not read.gate("AllowServiceExternalIPs"),
        oom_score_adj=read.number("oomScoreAdj", -999, -1000, 1000),
        conntrack=read_conntrack(read),
        ipvs=read_ipvs(read),
        verbosity=read.number("logging.verbosity", 0, 0, 10),
        log_as_json=_log_as_json(read),
        cleanup=read.flag("cleanup"),
        init_only=read.flag("init-only"),
        write_config_to=Path(written) if (written := read.text("write-config-to")) else None,
        config_file=Path(read.text("config")) if from_file else None,
        warnings=(*warnings, *content_type_warnings(read)),
    )


def _log_as_json(read: Reader) -> bool:
    given = read.given("logging.format")
    if given is not None and given.value not in ("", "text", "json"):
        raise given.error(f"{given.value!r} is no log format, use 'text' or 'json'")
    return given is not None and given.value == "json"


def _hidden_metrics(read: Reader) -> None:
    """Source: kube-proxy takes its own previous minor release only; none of its metrics was hidden since."""
    given = read.given("showHiddenMetricsForVersion")
    if given is not None and given.value not in ("", PREVIOUS_RELEASE):
        raise given.error(f"must be {PREVIOUS_RELEASE}, or not be given, not {given.value!r}")


def _periods(read: Reader, section: str, from_file: bool) -> tuple[float, float]:
    """(syncPeriod, minSyncPeriod).  Zero in a file is the same as absent, a flag means what it says."""
    sync_s = read.seconds(f"{section}.syncPeriod", 30.0)
    min_sync_s = read.seconds(f"{section}.minSyncPeriod", 1.0)
    if from_file:
        sync_s, min_sync_s = sync_s or 30.0, min_sync_s or 1.0
    given = read.given(f"{section}.syncPeriod")
    if given is not None and sync_s <= 0:
        raise given.error("must be greater than 0")
    if min_sync_s > sync_s:
        blamed = read.given(f"{section}.minSyncPeriod") or given
        assert blamed is not None  # noqa: S101 # the defaults do not contradict each other
        raise blamed.error(f"minSyncPeriod ({min_sync_s:g} s) must not be longer than syncPeriod ({sync_s:g} s)")
    return sync_s, min_sync_s


def _node_name(read: Reader) -> str:
    given = read.given("hostnameOverride")
    name = str(given.value).strip().lower() if given is not None else ""
    if given is not None and given.value and not name:
        raise given.error("must not be blank")
    return name or socket.gethostname().strip().lower()


def _mode(read: Reader) -> str:
    given = read.given("mode")
    mode = str(given.value) if given is not None else ""
    if given is None or mode in ("", "iptables"):
        return "iptables"
    if mode in ("nftables", "ipvs"):
        return mode
    if mode == "userspace":
        raise given.error("'userspace' is gone (Kubernetes removed it in 1.26), use 'nftables', 'iptables' or 'ipvs'")
    if mode == "kernelspace":
        raise given.error("'kernelspace' is for Windows, use 'nftables', 'iptables' or 'ipvs'")
    raise given.error(f"{mode!r} is no proxy mode, use 'nftables', 'iptables' or 'ipvs'")


def _listen(read: Reader, name: str, default: tuple[str, int], from_file: bool) -> tuple[str, int] | None:
    port = read.given(f"{name}-port")
    port_number = read.number(f"{name}-port", default[1], 0, 65535)
    if port is not None and port_number == 0:
        return None
    given = read.given(f"{name}BindAddress")
    if given is None or (from_file and given.value == ""):
        return default[0], port_number
    text = str(given.value)
    if not text:
        return None
    host, number = _split_host_port(text, port_number)
    if not _is_ip_or_empty(host) or not host or not 1 <= number <= 65535:
        raise given.error(f"{text!r} is not an address such as {default[0]}:{default[1]}")
    return host, number


def _split_host_port(text: str, default_port: int) -> tuple[str, int]:
    if _is_ip_or_empty(text.strip("[]")):
        return text.strip("[]"), default_port
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port) if port.isascii() and port.isdigit() else 0


def _detect_local_mode(read: Reader) -> str:
    given = read.given("detectLocalMode")
    mode = str(given.value) if given is not None else ""
    if given is None or mode == "":
        return "ClusterCIDR"
    if mode not in ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"):
        raise given.error(f"{mode!r} is not one of ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix")
    return mode


def _interface(read: Reader, path: str, mode: str) -> str:
    """Checked even where another mode makes no use of it; source: IFNAMSIZ of the kernel, 15 characters."""
    given = read.given(path)
    name = str(given.value) if given is not None else ""
    if name and (len(name) > _INTERFACE_LENGTH or not name.isprintable() or set(name) & set(' /"+!*')):
        assert given is not None  # noqa: S101 # there is a name
        raise given.error(f"{name!r} is not the name of an interface ({_INTERFACE_LENGTH} characters, no blank, no /)")
    chosen = read.given("detectLocalMode")
    if not name and chosen is not None and chosen.value == mode:
        raise chosen.error(f"{mode} needs {path}")
    return name


def _node_labels(read: Reader) -> dict[str, str]:
    """kubelet's form, key=value pairs separated by commas."""
    given = read.given("node-labels")
    labels: dict[str, str] = {}
    for part in str(given.value).split(",") if given is not None and given.value else ():
        key, found, value = part.strip().partition("=")
        if given is not None and (not found or is_qualified_name(key) or is_label_value(value)):
            raise given.error(f"{part!r} is not a label such as topology.kubernetes.io/zone=a")
        labels[key] = value
    return labels


def _cluster_cidrs(read: Reader) -> tuple[str, ...]:
    given = read.given("clusterCIDR")
    if given is None or not given.value:
        return ()
    networks = [read_cidr(given, part.strip()) for part in str(given.value).split(",")]
    families = [network.version for network in networks]
    if len(networks) > 2 or len(set(families)) != len(families):
        raise given.error("must be one CIDR, or one of IPv4 and one of IPv6")
    return tuple(str(network) for network in networks)


def _node_port_addresses(read: Reader) -> tuple[str, ...]:
    given = read.given("nodePortAddresses")
    values = read.texts("nodePortAddresses")
    if given is None or values == ("primary",):
        return values
    if "primary" in values:
        raise given.error("'primary' and CIDRs cannot be used together")
    return tuple(str(read_cidr(given, value)) for value in values)


def _is_ip_or_empty(text: str) -> bool:
    if not text:
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


__all__ = ["ConfigError", "ConntrackConfig", "ProxyConfig", "load_config"]
