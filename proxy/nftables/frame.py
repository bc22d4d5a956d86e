"""The fixed part of the table: sets, maps, and the chains that are there whichever services exist.  Pure, no I/O.

Before: `proxy.routes.TrafficSettings`.  Next: `proxy.nftables.diff` writes what `proxy.nftables.render` adds to it.

There is no chain per service.  A service is an element of the map `services` that leads to one chain per number of
endpoints; an endpoint is an element of the map `endpoints`.  Node ports have the same maps with the prefix `node-` and
without the address in their keys.  docs/nftables-rules.md shows them at work.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.nftables.model import Chain, Rule, rule
from proxy.routes import TrafficSettings
from proxy.services import family_of

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
"""Numbers, since names need /etc/protocols, which a small system does not have."""
MOST_CLIENTS = 262144
"""ClientIP affinity remembers that many clients of all services together, per family and kind of front end."""

_CLUSTER_IPS, _HAIRPIN, _NODE_ADDRESSES = "cluster-ips", "hairpin", "node-port-addresses"
_SERVICE_CIDRS = "service-cidrs"
_LOOPBACK = {4: "127.0.0.0/8", 6: "::1"}


@dataclass(frozen=True, slots=True)
class Kind:
    """Front ends of one kind: an address and a port, or a port on the node's addresses."""

    prefix: str
    has_address: bool

    def key(self, ip: str) -> str:
        """The packet's front end; `ip` is "ip" or "ip6"."""
        return f"{ip} daddr . meta l4proto . th dport" if self.has_address else "meta l4proto . th dport"

    def numbered(self, ip: str, protocol: str) -> str:
        """Definition of a map of endpoints: a front end and a number lead to a target.

        A number has no name among nft's types, so the types are told by examples.  There is a map for each protocol,
        since nft up to 1.0.6 cannot use one that it reads back with `th dport` as the example of a target's port.
        """
        return f"typeof {self.one_of(ip, protocol, 2)} : {ip} daddr . {protocol} dport;"

    def one_of(self, ip: str, protocol: str, count: int | str) -> str:
        """The packet's front end, and a number below `count`."""
        address = f"{ip} daddr . " if self.has_address else ""
        return f"{address}{protocol} dport . numgen random mod {count}"


VIP, NODE = Kind("", has_address=True), Kind("node-", has_address=False)
KINDS = (VIP, NODE)
SHARED_SETS = frozenset({_CLUSTER_IPS, _HAIRPIN})
"""Sets whose elements several services may want."""
_ENDPOINTS = ("endpoints", "local-endpoints")
_WORDS = tuple(name.lower() for name in PROTOCOLS)
ENDPOINT_SETS = frozenset(f"{k.prefix}{name}-{protocol}" for k in KINDS for name in _ENDPOINTS for protocol in _WORDS)
AFFINITY, STICKY, STICKY_PORTS = "affinity", "sticky", "sticky-ports"
_CLIENT = {4: "ip saddr", 6: "jhash ip6 saddr mod 4294967295 seed 0x6c6f6e67"}
"""What a client is known by.  nft up to 1.0.6 writes no more than 16 bytes of key and 16 of target by a rule: for IPv6
a digest of the client (two of one digest share an endpoint, as nobody can tell) and an endpoint without its port, which
`sticky-ports` gives."""


def family_word(family: int) -> str:
    """nft's name of an IP family."""
    return "ip" if family == 4 else "ip6"


def set_definitions(family: int) -> dict[str, str]:
    """Name -> definition of every set and map, such as "map services { type ...; }"."""
    ip = family_word(family)
    address = f"ipv{family}_addr"
    target = f"{address} . inet_service"
    found = {
        _CLUSTER_IPS: f"set {{ type {address}; }}",
        _HAIRPIN: f"set {{ type {address} . {address}; }}",
        _NODE_ADDRESSES: f"set {{ type {address}; flags interval; }}",
        _SERVICE_CIDRS: f"set {{ type {address}; flags interval; }}",
        "restricted": f"set {{ type {address} . inet_proto . inet_service; }}",
        STICKY: f"map {{ type classid . {target} : verdict; }}",
        AFFINITY: f"map {{ {_remembered(family)}; flags dynamic,timeout; size {MOST_CLIENTS}; }}",
        **({STICKY_PORTS: "map { type classid : inet_service; }"} if family == 6 else {}),
        "allowed-sources": f"set {{ type {address} . inet_proto . inet_service . {address}; flags interval; }}",
    }
    for kind in KINDS:
        front = "inet_proto . inet_service"
        if kind.has_address:
            front = f"{address} . {front}"
        maps = {
            **dict.fromkeys(("services", "inside", "outside", "refused"), f"type {front} : verdict;"),
            **{f"{name}-{protocol}": kind.numbered(ip, protocol) for name in _ENDPOINTS for protocol in _WORDS},
            **dict.fromkeys(("identities", "local-identities"), f"type {front} : classid;"),
        }
        found.update({f"{kind.prefix}{name}": f"map {{ {text} }}" for name, text in maps.items()})
    return found


def _remembered(family: int) -> str:
    """Client and identity of a service lead to an endpoint."""
    if family == 4:
        return "type ipv4_addr . classid : ipv4_addr . inet_service"
    # A digest has no name among nft's types, and nft 1.0.6 cannot print one that is told by `jhash` as the example.
    return "typeof numgen random mod 2 . meta priority : ip6 daddr"


def schema_digest(family: int) -> str:
    """Changes with any definition and any hook."""
    hooks = [f"{name} {hook}" for name, hook in sorted(_HOOKS.items())]
    text = "\n".join((*hooks, *(f"{name} {text}" for name, text in sorted(set_definitions(family).items()))))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


_HOOKS = {
    "before-dnat": "filter prerouting -110 accept",
    "nat-prerouting": "nat prerouting -100 accept",
    "after-dnat": "filter prerouting -90 accept",
    "filter-input": "filter input -110 accept",
    "filter-forward": "filter forward -110 accept",
    "output-before-dnat": "filter output -110 accept",
    "nat-output": "nat output -100 accept",
    "output-after-dnat": "filter output -90 accept",
    "nat-postrouting": "nat postrouting 100 accept",
}


def fixed_chains(settings: TrafficSettings, family: int) -> dict[str, Chain]:
    """Base chains and those they jump to, by name."""
    ip = family_word(family)
    bit = hex(1 << settings.masquerade_bit)
    others = hex(0xFFFFFFFF ^ 1 << settings.masquerade_bit)
    refused = rule(f"{VIP.key(ip)} vmap @refused", "services without an endpoint")
    strays = (
        rule(f"ct state new {ip} daddr @{_CLUSTER_IPS} reject", "no such port of a cluster IP"),
        rule(f"ct state new {ip} daddr @{_SERVICE_CIDRS} drop", "no such cluster IP"),
    )
    check = rule("ct state new jump endpoints-check", "services without an endpoint")
    firewall = rule("ct state new jump firewall-check", "loadBalancerSourceRanges")
    to_services = rule("jump services", "services")
    sent = f"ct state new ct status dnat meta priority . {ip} daddr . th dport vmap @{STICKY}"
    remember = rule(sent, "session affinity")
    rules: dict[str, tuple[Rule, ...]] = {
        "before-dnat": (firewall,),
        "nat-prerouting": (to_services,),
        "after-dnat": (remember,),
        "filter-input": (check, rule("ct state new jump node-endpoints-check", "node ports without an endpoint")),
        "filter-forward": (check, *strays),
        "output-before-dnat": (firewall,),
        "nat-output": (to_services,),
        "output-after-dnat": (remember, check, *strays),
        "nat-postrouting": (
            rule(f"ct status dnat {ip} saddr . {ip} daddr @{_HAIRPIN} goto masquerading", "a pod that reached itself"),
            rule(f"meta mark & {bit} == {bit} goto masquerading", "marked for it"),
        ),
        "masquerading": (
            rule(f"meta mark set meta mark & {others}", "judged anew where it passes again"),
            rule("masquerade fully-random", "service traffic"),
        ),
        "mark-for-masquerade": (rule(f"meta mark set meta mark | {bit}", "masqueradeBit"),),
        "services": tuple(_services(settings, family)),
        "endpoints-check": (refused,),
        "node-endpoints-check": (
            rule(f"{_on_node(settings, family)} {NODE.key(ip)} vmap @node-refused", "node ports without an endpoint"),
        ),
        "refuse": (rule("reject", "nobody would answer"),),
        "firewall-check": (
            rule(
                f"{VIP.key(ip)} @restricted {VIP.key(ip)} . {ip} saddr != @allowed-sources drop",
                "loadBalancerSourceRanges",
            ),
        ),
    }
    for kind in KINDS:
        rules[f"{kind.prefix}external-local"] = tuple(_external_local(settings, family, kind))
    return {name: Chain(name, lines, _HOOKS.get(name, "")) for name, lines in rules.items()}


def node_port_ranges(settings: TrafficSettings, family: int) -> tuple[str, ...]:
    """Elements of `node-port-addresses`, in the order given; () when every address of the node is meant."""
    mine = [cidr for cidr in settings.node_port_addresses if ipaddress.ip_network(cidr, strict=False).version == family]
    ranges = tuple(disjoint(mine))
    return () if any(text.endswith("/0") for text in ranges) else ranges


def service_ranges(settings: TrafficSettings, family: int) -> tuple[str, ...]:
    """Elements of `service-cidrs`."""
    return tuple(disjoint(cidr for cidr in settings.service_cidrs if family_of(cidr) == family))


def disjoint(cidrs: Iterable[str]) -> Iterator[str]:
    """CIDRs without overlaps, as nft prints them: a range of one address without its length."""
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in cidrs]
    four = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(n for n in networks if isinstance(n, ipaddress.IPv6Network))
    for text in (*map(str, four), *map(str, six)):
        yield text.removesuffix("/128" if ":" in text else "/32")


def pod_match(settings: TrafficSettings, family: int, *, inverted: bool = False) -> str | None:
    """Matches what comes from a pod of this node (or what does not); "" = everything does; None = cannot be told."""
    unlike = "!= " if inverted else ""
    if settings.pod_bridge:
        return f'iifname {unlike}"{settings.pod_bridge}"'
    if settings.pod_interface_prefix:
        return f'iifname {unlike}"{settings.pod_interface_prefix}*"'
    for cidr in settings.cluster_cidrs:
        network = ipaddress.ip_network(cidr, strict=False)
        if network.version == family:
            return f"{family_word(family)} saddr {unlike}{network}" if network.prefixlen else ""
    return None


def _on_node(settings: TrafficSettings, family: int) -> str:
    ip = family_word(family)
    chosen = f"{ip} daddr @{_NODE_ADDRESSES} " if node_port_ranges(settings, family) else ""
    return f"fib daddr type local {chosen}{ip} daddr != {_LOOPBACK[family]}"


def _services(settings: TrafficSettings, family: int) -> Iterator[Rule]:
    ip = family_word(family)
    outside = pod_match(settings, family, inverted=True)
    if settings.masquerade_all:
        yield rule(f"{ip} daddr @{_CLUSTER_IPS} jump mark-for-masquerade", "masqueradeAll")
    elif outside:
        yield rule(f"{ip} daddr @{_CLUSTER_IPS} {outside} jump mark-for-masquerade", "not from a pod")
    yield rule(f"{VIP.key(ip)} vmap @services", "cluster IPs, external IPs, load balancers")
    yield rule(f"{_on_node(settings, family)} {NODE.key(ip)} vmap @node-services", "node ports")


def _external_local(settings: TrafficSettings, family: int, kind: Kind) -> Iterator[Rule]:
    key = kind.key(family_word(family))
    inside, outside = f"vmap @{kind.prefix}inside", f"vmap @{kind.prefix}outside"
    pod = pod_match(settings, family)
    if pod is not None:
        yield rule(f"{pod} {key} {inside}".strip(), "pods reach every endpoint")
    yield rule("fib saddr type local jump mark-for-masquerade", "the node itself")
    yield rule(f"fib saddr type local {key} {inside}", "the node reaches every endpoint")
    yield rule(f"{key} {outside}", "endpoints of this node, the client's address kept")


def varying_chain(name: str, family: int) -> Chain:
    """A chain that exists because some service needs it.

    `[node-][external-|local-]spread-N` or `…sticky-N` sends to one of N endpoints, `remember-S` remembers the client
    for S seconds.
    """
    ip = family_word(family)
    kind = NODE if name.startswith(NODE.prefix) else VIP
    what, _, number = name.removeprefix(kind.prefix).rpartition("-")
    if what == "remember":
        target = "ip daddr . th dport" if family == 4 else "ip6 daddr"
        client = f"{_CLIENT[family]} . meta priority timeout {number}s : {target}"
        return Chain(name, (rule(f"update @{AFFINITY} {{ {client} }}", "where it went"), _CLEAR))
    rules = []
    if what.startswith("external-"):
        rules.append(rule("jump mark-for-masquerade", "externalTrafficPolicy Cluster"))
    local = "local-" if what.startswith("local-") else ""
    if what.endswith("sticky"):
        rules += _to_known(kind, family, local)
    for protocol in _WORDS:
        spread = f"dnat {ip} to {kind.one_of(ip, protocol, number)} map @{kind.prefix}{local}endpoints-{protocol}"
        rules.append(rule(spread, f"one of {number}, {protocol}"))
    return Chain(name, tuple(rules))


def _to_known(kind: Kind, family: int, local: str) -> Iterator[Rule]:
    # The priority carries the identity of the service to the chain that remembers, where its address is gone already.
    # Nobody else uses it here: the kernel sets it anew when it forwards, and for what the node itself sends it counts
    # behind all of this.  The packet mark would be other programs' business.
    ip = family_word(family)
    yield rule(f"meta priority set {kind.key(ip)} map @{kind.prefix}{local}identities", "which service")
    protocols = ", ".join(map(str, PROTOCOLS.values()))
    known = f"meta l4proto {{ {protocols} }} dnat {ip} to {_CLIENT[family]} . meta priority map @{AFFINITY}"
    if family == 6:
        known += f" : meta priority map @{STICKY_PORTS}"
    yield rule(known, "a client that was here before")


_CLEAR = rule("meta priority set none", "it was only carried")
