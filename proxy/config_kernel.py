"""What the configuration says about the kernel: connection tracking and IPVS.  Pure.

Before: `proxy.config_reader`.  Next: `proxy.config` has both in `ProxyConfig`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from proxy.config_reader import Reader
from proxy.config_values import Setting
from proxy.ipvs.model import DEFAULT_SCHEDULER, SCHEDULERS, IpvsSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class ConntrackConfig:
    """Kernel settings of connection tracking; 0 leaves the kernel's value alone."""

    max_per_core: int = 32768
    min_entries: int = 131072
    tcp_established_timeout_s: float = 86400.0
    tcp_close_wait_timeout_s: float = 3600.0
    tcp_be_liberal: bool = False
    udp_timeout_s: float = 0.0
    udp_stream_timeout_s: float = 0.0


def read_conntrack(read: Reader) -> ConntrackConfig:
    """The section conntrack.  Raises ConfigError."""
    most = 2**31 - 1
    return ConntrackConfig(
        max_per_core=read.number("conntrack.maxPerCore", 32768, 0, most),
        min_entries=read.number("conntrack.min", 131072, 0, most),
        tcp_established_timeout_s=read.seconds("conntrack.tcpEstablishedTimeout", 86400.0),
        tcp_close_wait_timeout_s=read.seconds("conntrack.tcpCloseWaitTimeout", 3600.0),
        tcp_be_liberal=read.flag("conntrack.tcpBeLiberal"),
        udp_timeout_s=read.seconds("conntrack.udpTimeout", 0.0),
        udp_stream_timeout_s=read.seconds("conntrack.udpStreamTimeout", 0.0),
    )


def read_ipvs(read: Reader) -> IpvsSettings:
    """The section ipvs.  Raises ConfigError."""
    given = read.given("ipvs.scheduler")
    scheduler = (str(given.value) if given is not None else "") or DEFAULT_SCHEDULER
    if given is not None and scheduler not in SCHEDULERS:
        raise given.error(f"{scheduler!r} is no scheduler of IPVS; there are {', '.join(SCHEDULERS)}")
    excluded = read.given("ipvs.excludeCIDRs")
    cidrs = read.texts("ipvs.excludeCIDRs")
    return IpvsSettings(
        scheduler=scheduler,
        exclude_cidrs=tuple(str(read_cidr(excluded, cidr)) for cidr in cidrs) if excluded is not None else (),
        strict_arp=read.flag("ipvs.strictARP"),
        tcp_timeout_s=_whole_seconds(read, "ipvs.tcpTimeout"),
        tcp_fin_timeout_s=_whole_seconds(read, "ipvs.tcpFinTimeout"),
        udp_timeout_s=_whole_seconds(read, "ipvs.udpTimeout"),
    )


def _whole_seconds(read: Reader, key: str) -> int:
    """IPVS counts in seconds; 0 leaves its own value."""
    seconds = read.seconds(key, 0.0)
    given = read.given(key)
    if given is not None and 0 < seconds < 1:
        raise given.error("must be at least 1s, or 0 for the kernel's own value")
    return int(seconds)


def read_cidr(given: Setting, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """One CIDR; host bits are dropped.  Raises ConfigError."""
    if "/" not in text:
        raise given.error(f"{text!r} is not a CIDR such as 10.244.0.0/16")
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise given.error(f"{text!r} is not a CIDR such as 10.244.0.0/16") from None
