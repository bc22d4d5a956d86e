"""Values of the IPVS backend: virtual servers, the addresses they listen on, the ipsets.  Pure, no I/O.

Before: `proxy.ipvs.render` makes a `State` out of routes, `proxy.ipvs.observe` makes the same value out of the kernel.
Next: `proxy.ipvs.diff` turns two of them into steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

DEVICE = "kube-ipvs0"
"""The dummy device that holds the addresses of services; kube-proxy's name for it."""
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "sed", "nq")
DEFAULT_SCHEDULER = "rr"
MAX_SET_NAME = 31  # IPSET_MAXNAMELEN of linux/netfilter/ipset/ip_set.h, without its zero byte


@dataclass(frozen=True, slots=True, kw_only=True)
class IpvsSettings:
    """The section `ipvs` of KubeProxyConfiguration; names follow it.  0 leaves the kernel's timeout alone."""

    scheduler: str = DEFAULT_SCHEDULER
    exclude_cidrs: tuple[str, ...] = ()
    """Virtual servers with an address in these ranges are somebody else's: not deleted."""
    strict_arp: bool = False
    tcp_timeout_s: int = 0
    tcp_fin_timeout_s: int = 0
    udp_timeout_s: int = 0


class Target(NamedTuple):
    """A real server of a virtual one."""

    ip: str
    port: int


class ServerKey(NamedTuple):
    """What the kernel finds a virtual server by."""

    protocol: str
    """"TCP", "UDP" or "SCTP"."""
    ip: str
    port: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.ip else 4

    def __str__(self) -> str:
        return f"{f'[{self.ip}]' if self.family == 6 else self.ip}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One address and port, and who answers there."""

    scheduler: str
    affinity_s: int
    """Seconds a client stays with its real server; 0: each connection is spread anew."""
    weights: Mapping[Target, int]
    """1, or 0 for a target that gets no new connection."""
    only_to_drain: bool = False
    """Wanted for the connections that it has, not made when it is not there."""

    @property
    def shape(self) -> tuple[str, int]:
        """What can be changed without making it anew."""
        return self.scheduler, self.affinity_s


@dataclass(frozen=True, slots=True)
class SetKind:
    """One ipset: its IPv4 name, its type, and what its entries mean."""

    name: str
    type: str

    def name_of(self, family: int) -> str:
        """Its name in one IP family."""
        name = self.name if family == 4 else self.name.replace("KUBE-", "KUBE-6-", 1)
        return name[:MAX_SET_NAME]


_IP_PORT, _PORTS = "hash:ip,port", "bitmap:port"
LOOP_BACK = SetKind("KUBE-LOOP-BACK", "hash:ip,port,ip")
CLUSTER_IP = SetKind("KUBE-CLUSTER-IP", _IP_PORT)
EXTERNAL_IP = SetKind("KUBE-EXTERNAL-IP", _IP_PORT)
EXTERNAL_IP_LOCAL = SetKind("KUBE-EXTERNAL-IP-LOCAL", _IP_PORT)
LOAD_BALANCER = SetKind("KUBE-LOAD-BALANCER", _IP_PORT)
LOAD_BALANCER_LOCAL = SetKind("KUBE-LOAD-BALANCER-LOCAL", _IP_PORT)
LOAD_BALANCER_FW = SetKind("KUBE-LOAD-BALANCER-FW", _IP_PORT)
SOURCE_CIDR = SetKind("KUBE-LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net")
NODE_PORT_TCP = SetKind("KUBE-NODE-PORT-TCP", _PORTS)
NODE_PORT_LOCAL_TCP = SetKind("KUBE-NODE-PORT-LOCAL-TCP", _PORTS)
NODE_PORT_UDP = SetKind("KUBE-NODE-PORT-UDP", _PORTS)
NODE_PORT_LOCAL_UDP = SetKind("KUBE-NODE-PORT-LOCAL-UDP", _PORTS)
NODE_PORT_SCTP = SetKind("KUBE-NODE-PORT-SCTP-HASH", _IP_PORT)  # bitmap:port knows no SCTP
NODE_PORT_LOCAL_SCTP = SetKind("KUBE-NODE-PORT-LOCAL-SCTP-HASH", _IP_PORT)
HEALTH_CHECK = SetKind("KUBE-HEALTH-CHECK-NODE-PORT", _PORTS)
NO_LOCAL_INTERNAL = SetKind("KUBE-NO-LOCAL-INTERNAL", _IP_PORT)  # ours: policy Local and no endpoint here
NO_LOCAL_EXTERNAL = SetKind("KUBE-NO-LOCAL-EXTERNAL", _IP_PORT)
IPVS_IPS = SetKind("KUBE-IPVS-IPS", "hash:ip")
"""Every address on the device: what is no service there is refused."""

SETS = (
    LOOP_BACK, CLUSTER_IP, EXTERNAL_IP, EXTERNAL_IP_LOCAL, LOAD_BALANCER, LOAD_BALANCER_LOCAL, LOAD_BALANCER_FW,
    SOURCE_CIDR, NODE_PORT_TCP, NODE_PORT_LOCAL_TCP, NODE_PORT_UDP, NODE_PORT_LOCAL_UDP, NODE_PORT_SCTP,
    NODE_PORT_LOCAL_SCTP, HEALTH_CHECK, NO_LOCAL_INTERNAL, NO_LOCAL_EXTERNAL, IPVS_IPS,
)  # fmt: skip
_UPSTREAM_ONLY = ("KUBE-LOAD-BALANCER-SOURCE-IP",)
OWN_SET_NAMES = frozenset(
    kind.name_of(family) for kind in (*SETS, *(SetKind(name, "") for name in _UPSTREAM_ONLY)) for family in (4, 6)
)
"""Names of sets that this backend or kube-proxy in the same mode makes."""


@dataclass(frozen=True, slots=True)
class State:
    """What is in the kernel, or is to be; the rules of iptables apart."""

    servers: Mapping[ServerKey, VirtualServer] = field(default_factory=dict)
    vips: frozenset[str] = frozenset()
    """Addresses on the device."""
    sets: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Set name -> entries as `ipset list` writes them; a set that does not exist is absent."""


Connections = Mapping[tuple[ServerKey, Target], int]
"""Active and inactive connections of each real server."""
