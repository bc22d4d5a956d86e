"""The fixed part of the rules: what is there whichever services exist.  Pure, no I/O.

Before: `proxy.iptables.render` collects the rules of all routes.  Next: the two `Table` values of a `Ruleset`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, fields

from proxy.iptables import model
from proxy.iptables.model import Chain, Jump, Rule, Table
from proxy.iptables.names import comment
from proxy.routes import TrafficSettings

# Classic BPF over the IP header, run by xt_bpf: is the source address the destination address?
_SAME_ADDRESS_4 = "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0"
_WORDS_6 = "".join(
    f"32 0 0 {8 + 4 * word},7 0 0 0,32 0 0 {24 + 4 * word},29 0 {(3 - word) * 4 + 1} 0," for word in range(4)
)
_SAME_ADDRESS_6 = f"18,{_WORDS_6}6 0 0 65535,6 0 0 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderConfig(TrafficSettings):
    """What shapes rules: the settings that every backend obeys, and what this backend found out about its kernel."""

    hairpin_by_bpf: bool = True
    """False where the kernel has no xt_bpf: then one hairpin rule per endpoint address is written."""
    route_localnet_before: str = ""
    """Value of the sysctl before we set it, kept in the kernel by the canary chain; "" when we did not set it."""

    @classmethod
    def of(cls, settings: TrafficSettings) -> RenderConfig:
        """The settings, and nothing found out yet."""
        if isinstance(settings, RenderConfig):
            return settings
        return cls(**{field.name: getattr(settings, field.name) for field in fields(settings)})

    def pod_match(self, family: int) -> PodMatch | None:
        """How a packet of one family is known to come from a pod; None when it cannot be."""
        if self.pod_bridge or self.pod_interface_prefix:
            name = self.pod_bridge or f"{self.pod_interface_prefix}+"
            return PodMatch(f"-i {name} ", f"! -i {name} ", by_interface=True)
        cidr = next(iter(_of_family(self.cluster_cidrs, family)), "")
        if not cidr:
            return None
        # iptables-save prints no match for everything, and what is not from anywhere does not exist.
        return PodMatch("", None) if cidr in _EVERYWHERE else PodMatch(f"-s {cidr} ", f"! -s {cidr} ")


@dataclass(frozen=True, slots=True)
class PodMatch:
    """The start of a rule for what comes from a pod, and for what does not; None: nothing does."""

    is_pod: str
    is_no_pod: str | None
    by_interface: bool = False


def _of_family(cidrs: Sequence[str], family: int) -> list[str]:
    networks = (ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)
    return [network.with_prefixlen for network in networks if network.version == family]


@dataclass(frozen=True, slots=True)
class FilterRules:
    """Rules of all routes for table filter, by the chain they go to; no two match the same packet."""

    inside: list[Rule]
    """KUBE-SERVICES: cluster IPs with nowhere to go."""
    outside: list[Rule]
    """KUBE-EXTERNAL-SERVICES: node ports and other addresses with nowhere to go."""
    source_ranges: list[Rule]
    """KUBE-PROXY-FIREWALL: what no source range of a load balancer address let pass."""
    health_checks: list[Rule]
    """KUBE-NODEPORTS: health check node ports that must answer."""


def filter_table(config: RenderConfig, family: int, rules: FilterRules) -> Table:
    """Table filter: refusals, what is always forwarded, and the guard that localhost node ports need."""
    mark = _mark(config)
    forward = (
        *(() if config.conntrack_tcp_be_liberal else ("-m conntrack --ctstate INVALID -j DROP",)),
        f"{comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT",
        f"{comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )
    chains = [
        Chain(model.SERVICES, tuple(rules.inside), any_order=True),
        Chain(model.EXTERNAL_SERVICES, tuple(rules.outside), any_order=True),
        Chain(model.SOURCE_RANGES, tuple(rules.source_ranges), any_order=True),
        Chain(model.NODE_PORTS, tuple(rules.health_checks), any_order=True),
        Chain(model.FORWARD, forward),
    ]
    new = "-m conntrack --ctstate NEW"
    inside = f"{new} {comment('kubernetes service portals')} -j {model.SERVICES}"
    visible = f"{new} {comment('kubernetes externally-visible service portals')} -j {model.EXTERNAL_SERVICES}"
    ranges = f"{new} {comment('kubernetes load balancer firewall')} -j {model.SOURCE_RANGES}"
    jumps = [
        *(Jump(hook, ranges) for hook in ("INPUT", "OUTPUT", "FORWARD")),
        Jump("INPUT", f"{comment('kubernetes health check service ports')} -j {model.NODE_PORTS}"),
        Jump("INPUT", visible),
        Jump("FORWARD", visible),
        Jump("FORWARD", inside),
        Jump("FORWARD", f"{comment('kubernetes forwarding rules')} -j {model.FORWARD}"),
        Jump("OUTPUT", inside),
    ]
    if family == 4 and config.localhost_node_ports:
        # CVE-2020-8558: route_localnet lets neighbours on the link reach what listens on 127.0.0.1 here.
        martian = (
            f"! -s 127.0.0.0/8 -d 127.0.0.0/8 {comment('block incoming localnet connections')} "
            "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        )
        chains.append(Chain(model.FIREWALL, (martian,)))
        jumps += [Jump("INPUT", f"-j {model.FIREWALL}"), Jump("OUTPUT", f"-j {model.FIREWALL}")]
    return Table("filter", {chain.name: chain for chain in chains}, tuple(jumps))


def nat_table(
    config: RenderConfig,
    family: int,
    chains: dict[str, Chain],
    services: list[Rule],
    node_ports: list[Rule],
    hairpin_ips: Sequence[str],
) -> Table:
    """Table nat; `chains` (those of the routes) is completed in place."""
    mark = _mark(config)
    frame = [
        Chain(
            model.SERVICES, (*services, *_to_node_ports(config, family)), any_order=len(config.node_port_addresses) < 2
        ),
        Chain(model.NODE_PORTS, tuple(node_ports), any_order=True),
        Chain(model.MARK_MASQ, (f"-j MARK --set-xmark {mark}/{mark}",)),
        Chain(model.POSTROUTING, _postrouting(config, family, mark)),
    ]
    if not config.hairpin_by_bpf:
        host = 32 if family == 4 else 128
        rules = tuple(f"-s {ip}/{host} -d {ip}/{host} -j MASQUERADE --random-fully" for ip in hairpin_ips)
        frame.append(Chain(model.HAIRPIN, rules, any_order=True))
    if family == 4 and config.route_localnet_before:
        note = comment(f"{ROUTE_LOCALNET_NOTE}{config.route_localnet_before}")
        frame.append(Chain(model.CANARY, (note,)))
    for chain in frame:
        chains[chain.name] = chain
    portals = f"{comment('kubernetes service portals')} -j {model.SERVICES}"
    jumps = (
        Jump("PREROUTING", portals),
        Jump("OUTPUT", portals),
        Jump("POSTROUTING", f"{comment('kubernetes postrouting rules')} -j {model.POSTROUTING}"),
    )
    return Table("nat", chains, jumps)


ROUTE_LOCALNET_NOTE = "net.ipv4.conf.all.route_localnet was "


def _mark(config: RenderConfig) -> str:
    return hex(1 << config.masquerade_bit)


def _postrouting(config: RenderConfig, family: int, mark: str) -> tuple[Rule, ...]:
    # A pod that reached itself through a service must see another source address, or it would answer itself directly.
    # One rule compares the addresses of every connection that was DNATed; a rule per endpoint would say the same.
    masquerade = "-j MASQUERADE --random-fully"
    itself = f"{comment('a pod that reached itself through a service')} -m conntrack --ctstate DNAT"
    if config.hairpin_by_bpf:
        bytecode = _SAME_ADDRESS_4 if family == 4 else _SAME_ADDRESS_6
        hairpin = f'{itself} -m bpf --bytecode "{bytecode}" {masquerade}'
    else:
        hairpin = f"{itself} -j {model.HAIRPIN}"
    return (
        hairpin,
        f"-m mark ! --mark {mark}/{mark} -j RETURN",
        # Taken off again, so that a packet which passes here a second time (a tunnel) is judged anew.
        f"-j MARK --set-xmark {mark}/0x0",
        f"{comment('kubernetes service traffic requiring SNAT')} {masquerade}",
    )


def _to_node_ports(config: RenderConfig, family: int) -> tuple[Rule, ...]:
    note = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
    local = f"{note} -m addrtype --dst-type LOCAL -j {model.NODE_PORTS}"
    everywhere = _EVERYWHERE[family == 6]
    loopback = ipaddress.ip_network("127.0.0.0/8" if family == 4 else "::1/128")
    wanted = _of_family(config.node_port_addresses, family) or [everywhere]
    # IPv6 has no route_localnet: what comes from ::1 could never be sent on to a pod.
    on_loopback = family == 4 and config.localhost_node_ports
    if everywhere in wanted:
        return (local if on_loopback else f"! -d {loopback} {local}",)
    networks = [ipaddress.ip_network(cidr) for cidr in wanted]
    answering = [one for one in networks if on_loopback or not one.subnet_of(loopback)]  # type: ignore[arg-type] # of one family
    return tuple(f"-d {network} {local}" for network in answering)


_EVERYWHERE = ("0.0.0.0/0", "::/0")
