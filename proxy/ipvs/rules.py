"""The constant iptables rules of the IPVS mode: they speak of ipsets, never of a service.  Pure, no I/O.

Before: `proxy.ipvs.engine`, once per IP family.  Next: `proxy.iptables.diff` and `.apply` bring them into the kernel.
Chains are those of kube-proxy in this mode.  Packets to a service's address are local ones, because the address is on
kube-ipvs0: they pass INPUT, where IPVS takes them after table filter has had its say.  What the node itself sends is
taken in OUTPUT before that table.
"""

from __future__ import annotations

from proxy.iptables import model as chains
from proxy.iptables.frame import RenderConfig
from proxy.iptables.model import Chain, Jump, Rule, Ruleset, Table
from proxy.iptables.names import comment
from proxy.ipvs import model
from proxy.ipvs.model import SetKind
from proxy.routes import TrafficSettings

NODE_PORT = "KUBE-NODE-PORT"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
SOURCE_RANGES = "KUBE-SOURCE-RANGES-FIREWALL"
FIREWALL = "KUBE-PROXY-FIREWALL"
IPVS_FILTER = "KUBE-IPVS-FILTER"
IPVS_OUT_FILTER = "KUBE-IPVS-OUT-FILTER"
_MASQUERADE = f"-j {chains.MARK_MASQ}"
_FROM_NODE = "-m addrtype --src-type LOCAL"
_NEW = "-m conntrack --ctstate NEW"


def rules_of(settings: TrafficSettings, family: int) -> Ruleset:
    """Both tables of one IP family."""
    return Ruleset(filter=_filter(settings, family), nat=_nat(settings, family))


def _to(kind: SetKind, family: int, flags: str = "dst,dst") -> str:
    return f"-m set --match-set {kind.name_of(family)} {flags}"


def _filter(settings: TrafficSettings, family: int) -> Table:
    mark = hex(1 << settings.masquerade_bit)
    refuse = f"-j REJECT --reject-with {'icmp-port-unreachable' if family == 4 else 'icmp6-port-unreachable'}"
    forward = (
        f"{comment('kubernetes forwarding rules')} -m mark --mark {mark}/{mark} -j ACCEPT",
        f"{comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )
    health = comment("Kubernetes health check node port")
    to_vip = _to(model.IPVS_IPS, family, "dst")
    let_in = (
        *(_to(kind, family) for kind in (model.LOAD_BALANCER, model.CLUSTER_IP, model.EXTERNAL_IP)),
        _to(model.EXTERNAL_IP_LOCAL, family),
        _to(model.HEALTH_CHECK, family, "dst"),
    )
    found = [
        Chain(chains.FORWARD, forward),
        Chain(NODE_PORT, (f"{health} {_to(model.HEALTH_CHECK, family, 'dst')} -j ACCEPT",)),
        Chain(FIREWALL, (f"{_to(model.LOAD_BALANCER_FW, family)} -j {SOURCE_RANGES}",)),
        Chain(SOURCE_RANGES, (f"{_to(model.SOURCE_CIDR, family, 'dst,dst,src')} -j RETURN", "-j DROP")),
        Chain(
            IPVS_FILTER,
            (
                f"{_NEW} {_to(model.NO_LOCAL_INTERNAL, family)} -j DROP",
                *_drop_strangers(settings, family),
                *(f"{match} -j RETURN" for match in let_in),
                f"{_NEW} {to_vip} {refuse}",
            ),
        ),
        Chain(
            IPVS_OUT_FILTER,
            (f"{_NEW} {_to(model.NO_LOCAL_INTERNAL, family)} -j DROP", f"{_NEW} {to_vip} {refuse}"),
        ),
    ]
    ranges = f"{comment('kube-proxy firewall rules')} -j {FIREWALL}"
    access = comment("kubernetes ipvs access filter")
    jumps = (
        Jump("INPUT", ranges),
        Jump("INPUT", f"{comment('kubernetes health check rules')} -j {NODE_PORT}"),
        Jump("INPUT", f"{access} -j {IPVS_FILTER}"),
        Jump("FORWARD", ranges),
        Jump("FORWARD", f"{comment('kubernetes forwarding rules')} -j {chains.FORWARD}"),
        Jump("OUTPUT", f"{access} -j {IPVS_OUT_FILTER}"),
    )
    return Table("filter", {chain.name: chain for chain in found}, jumps)


def _drop_strangers(settings: TrafficSettings, family: int) -> tuple[Rule, ...]:
    """External policy Local and no endpoint here: only pods of this node and the node itself are served."""
    to_them = _to(model.NO_LOCAL_EXTERNAL, family)
    let_through = tuple(f"{pod}{to_them} -j RETURN" for pod in _from_pod(settings, family))
    return (*let_through, f"{_NEW} {to_them} -m addrtype ! --src-type LOCAL -j DROP")


def _nat(settings: TrafficSettings, family: int) -> Table:
    mark = hex(1 << settings.masquerade_bit)
    services = (
        *_masquerade_cluster_ips(settings, family),
        f"{_to(model.EXTERNAL_IP, family)} {_MASQUERADE}",
        # The node takes the service's own address as its source: nobody would send the answer here.
        f"{_to(model.EXTERNAL_IP_LOCAL, family)} {_FROM_NODE} {_MASQUERADE}",
        f"{_to(model.LOAD_BALANCER, family)} -j {LOAD_BALANCER}",
        f"-m addrtype --dst-type LOCAL -j {NODE_PORT}",
        *(f"{_to(kind, family)} -j ACCEPT" for kind in (model.CLUSTER_IP, model.LOAD_BALANCER)),
    )
    balancer = (
        f"{_to(model.LOAD_BALANCER_LOCAL, family)} {_FROM_NODE} {_MASQUERADE}",
        f"{_to(model.LOAD_BALANCER_LOCAL, family)} -j RETURN",
        _MASQUERADE,
    )
    node_port = (
        *_node_ports("tcp", model.NODE_PORT_LOCAL_TCP, model.NODE_PORT_TCP, family, "dst"),
        *_node_ports("udp", model.NODE_PORT_LOCAL_UDP, model.NODE_PORT_UDP, family, "dst"),
        *_node_ports("sctp", model.NODE_PORT_LOCAL_SCTP, model.NODE_PORT_SCTP, family, "dst,dst"),
    )
    hairpin = comment("Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose")
    postrouting = (
        f"{hairpin} {_to(model.LOOP_BACK, family, 'dst,dst,src')} -j MASQUERADE --random-fully",
        f"-m mark ! --mark {mark}/{mark} -j RETURN",
        f"-j MARK --set-xmark {mark}/0x0",
        f"{comment('kubernetes service traffic requiring SNAT')} -j MASQUERADE --random-fully",
    )
    found = (
        Chain(chains.SERVICES, services),
        Chain(LOAD_BALANCER, balancer),
        Chain(NODE_PORT, node_port),
        Chain(chains.MARK_MASQ, (f"-j MARK --set-xmark {mark}/{mark}",)),
        Chain(chains.POSTROUTING, postrouting),
    )
    portals = f"{comment('kubernetes service portals')} -j {chains.SERVICES}"
    jumps = (
        Jump("PREROUTING", portals),
        Jump("OUTPUT", portals),
        Jump("POSTROUTING", f"{comment('kubernetes postrouting rules')} -j {chains.POSTROUTING}"),
    )
    return Table("nat", {chain.name: chain for chain in found}, jumps)


def _masquerade_cluster_ips(settings: TrafficSettings, family: int) -> tuple[Rule, ...]:
    if settings.masquerade_all:
        return (f"{_to(model.CLUSTER_IP, family)} {_MASQUERADE}",)
    pods = RenderConfig.of(settings).pod_match(family)
    if pods is not None:
        to_vip = f"{_to(model.CLUSTER_IP, family)} {_MASQUERADE}"
        return (f"{pods.is_no_pod}{to_vip}",) if pods.is_no_pod is not None else ()
    # Pods cannot be told; what the node itself sends has the service's own address as its source.
    return (f"{_to(model.CLUSTER_IP, family, 'src,dst')} {_MASQUERADE}",)


def _node_ports(protocol: str, local: SetKind, cluster: SetKind, family: int, flags: str) -> tuple[Rule, Rule]:
    return (
        f"-p {protocol} {_to(local, family, flags)} -j RETURN",
        f"-p {protocol} {_to(cluster, family, flags)} {_MASQUERADE}",
    )


def _from_pod(settings: TrafficSettings, family: int) -> tuple[str, ...]:
    """The start of a rule for what comes from a pod; nothing where pods cannot be told."""
    match = RenderConfig.of(settings).pod_match(family)
    return (match.is_pod,) if match is not None else ()
