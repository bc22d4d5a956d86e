"""Why a connection to a service goes where it goes: the walk of one client through the resolved model.  Pure.

Before: the `RoutingTable` that the backend was given, and the settings it was given with.  Next: `proxy.local_api`
answers `longshore proxy explain`.  A backend adds the names of its rules by a `RuleNames`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from proxy.routes import Endpoint, RoutingTable, ServiceRoute, TrafficSettings

CLUSTER_IP, NODE_PORT, EXTERNAL_IP, LOAD_BALANCER = "cluster IP", "node port", "external IP", "load balancer IP"
RuleNames = Callable[[ServiceRoute, str], str]
"""(route, one of the four doors) -> where the backend's rules for it are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who connects where."""

    client: str
    """IP address in canonical text."""
    address: str
    port: int
    protocol: str
    client_is_node: bool
    """The client's address is one of this node's."""
    address_is_node: bool
    """The address asked for is one of this node's."""


def parse_question(parameters: Mapping[str, str], is_own_address: Callable[[str], bool]) -> Question:
    """A question from text: client, address, port, protocol (TCP when absent).  Raises ValueError."""
    client, address = (_address(parameters, name) for name in ("client", "address"))
    if (":" in client) != (":" in address):
        raise ValueError(f"{client} cannot connect to {address}: they are of different IP families")
    port, protocol = parameters.get("port", ""), parameters.get("protocol", "TCP").upper()
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"port must be between 1 and 65535, not {port!r}")
    if protocol not in ("TCP", "UDP", "SCTP"):
        raise ValueError(f"protocol must be one of TCP, UDP, SCTP, not {protocol!r}")
    return Question(
        client=client,
        address=address,
        port=int(port),
        protocol=protocol,
        client_is_node=is_own_address(client),
        address_is_node=is_own_address(address),
    )


def _address(parameters: Mapping[str, str], name: str) -> str:
    text = parameters.get(name, "")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{name} must be an IP address, not {text!r}") from None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer; `verdict` is ACCEPT, REJECT, DROP, or NONE where no service is concerned."""

    verdict: str
    service: str
    endpoints: tuple[Endpoint, ...]
    masquerade: bool
    reasons: tuple[str, ...]
    """One sentence per step, in the order in which the packet meets them."""


def explain(
    table: RoutingTable,
    settings: TrafficSettings,
    question: Question,
    rule_names: RuleNames | None = None,
    *,
    guards_empty: bool = False,
) -> Explanation:
    """Walk the model as a new connection would.

    `guards_empty`: loadBalancerSourceRanges count for a service without endpoints too, as in mode nftables.
    """
    found = _find(table.routes, question)
    asked = f"{question.address}:{question.port}/{question.protocol}"
    if found is None:
        nowhere = _is_nowhere(table.routes, settings, question.address)
        why = "nor has any the address, which is in their range: dropped"
        why = why if nowhere else "so no rule of ours touches the packet"
        reasons = [f"no service of this node serves {asked}, {why}"]
        reasons += [str(problem) for problem in table.errors if question.address in problem.message]
        return Explanation("DROP" if nowhere else "NONE", "", (), False, tuple(reasons))
    route, door = found
    reasons = [f"{asked} is the {door} of service {route.name}"]
    if rule_names is not None:
        reasons.append(f"its rules: {rule_names(route, door)}")
    guarded = door == LOAD_BALANCER and bool(route.endpoints or guards_empty)
    if guarded and (outside := _outside_ranges(route, question.client)):
        return Explanation("DROP", str(route.name), (), False, (*reasons, outside))
    if door == NODE_PORT and not _answers_node_ports(settings, question.address):
        # Refusals of node ports stand for all of the node's addresses, as with kube-proxy.
        refused = "" if route.external_verdict == "ACCEPT" else route.external_verdict
        reasons.append(f"node ports do not answer on {question.address} (nodePortAddresses, localhostNodePorts)")
        return Explanation(refused or "NONE", str(route.name), (), False, tuple(reasons))
    pod, how = _is_pod(route, settings, question)
    reasons.append(how)
    endpoints, why = _endpoints(route, door, inside=pod or question.client_is_node)
    reasons.append(why)
    if not endpoints:
        verdict, why = _refusal(route, door, question)
        return Explanation(verdict, str(route.name), (), False, (*reasons, why))
    if route.affinity_timeout_s is not None:
        seconds = route.affinity_timeout_s
        reasons.append(f"sessionAffinity ClientIP: a client seen in the last {seconds} s goes where it went before")
    reasons.append(f"one of {len(endpoints)} endpoints, each with the same chance")
    masquerade, why = _masquerade(route, door, settings, question, is_pod=pod)
    reasons.append(why)
    if any(endpoint.ip == question.client for endpoint in endpoints):
        reasons.append("where the client itself is chosen, its source becomes the node's, or it would answer itself")
    return Explanation("ACCEPT", str(route.name), endpoints, masquerade, tuple(reasons))


def _find(routes: Iterable[ServiceRoute], question: Question) -> tuple[ServiceRoute, str] | None:
    at_node: ServiceRoute | None = None
    for route in routes:
        if route.name.protocol != question.protocol:
            continue
        if route.port == question.port:
            for door, addresses in (
                (CLUSTER_IP, (route.cluster_ip,)),
                (EXTERNAL_IP, route.external_ips),
                (LOAD_BALANCER, route.load_balancer_ips),
            ):
                if question.address in addresses:
                    return route, door
        if route.node_port == question.port and route.family == ipaddress.ip_address(question.address).version:
            at_node = route
    if at_node is not None and question.address_is_node:
        return at_node, NODE_PORT
    return None


def _is_nowhere(routes: Iterable[ServiceRoute], settings: TrafficSettings, text: str) -> bool:
    """A cluster IP that nobody has."""
    if any(route.cluster_ip == text for route in routes):
        return False
    return any(ipaddress.ip_address(text) in ipaddress.ip_network(cidr) for cidr in settings.service_cidrs)


def _answers_node_ports(settings: TrafficSettings, text: str) -> bool:
    address = ipaddress.ip_address(text)
    if address.is_loopback and (address.version == 6 or not settings.localhost_node_ports):
        return False
    networks = [ipaddress.ip_network(cidr, strict=False) for cidr in settings.node_port_addresses]
    mine = [network for network in networks if network.version == address.version]
    return not mine or any(address in network for network in mine)


def _outside_ranges(route: ServiceRoute, client: str) -> str:
    ranges = route.allowed_sources
    if not ranges or any(ipaddress.ip_address(client) in ipaddress.ip_network(one) for one in ranges):
        return ""
    return f"{client} is in none of loadBalancerSourceRanges ({', '.join(ranges)}): dropped"


def _is_pod(route: ServiceRoute, settings: TrafficSettings, question: Question) -> tuple[bool, str]:
    """Does detectLocalMode take the client for a pod of this node, and how that was found out."""
    client = ipaddress.ip_address(question.client)
    if question.client_is_node:
        return False, f"{question.client} is this node itself"
    if settings.pod_bridge or settings.pod_interface_prefix:
        through = settings.pod_bridge or f"{settings.pod_interface_prefix}..."
        known = any(endpoint.local and endpoint.ip == question.client for endpoint in route.endpoints)
        text = "is an endpoint here, so" if known else "is a pod of this node only if"
        return known, f"{question.client} {text} its packets come in through {through}"
    for cidr in settings.cluster_cidrs:
        network = ipaddress.ip_network(cidr, strict=False)
        if network.version == client.version:
            inside = client in network
            return inside, f"{question.client} is {'a pod' if inside else 'no pod'}: clusterCIDR is {cidr}"
    return (
        False,
        f"{question.client} cannot be told from an outsider: there is no clusterCIDR nor other detectLocalMode",
    )


def _endpoints(route: ServiceRoute, door: str, *, inside: bool) -> tuple[tuple[Endpoint, ...], str]:
    if door == CLUSTER_IP:
        policy = "internalTrafficPolicy Local" if route.internal_local else "internalTrafficPolicy Cluster"
        return route.internal_endpoints, f"{policy}: {_set_of(route.internal_local)}"
    if not route.external_local:
        return route.endpoints, f"externalTrafficPolicy Cluster: {_set_of(False)}"
    if inside:
        return route.endpoints, f"externalTrafficPolicy Local concerns outsiders; from here {_set_of(False)}"
    return route.local_endpoints, f"externalTrafficPolicy Local: {_set_of(True)}"


def _set_of(local: bool) -> str:
    return "only endpoints of this node" if local else "all endpoints that are ready and near"


def _refusal(route: ServiceRoute, door: str, question: Question) -> tuple[str, str]:
    if question.client_is_node and door != CLUSTER_IP and not question.address_is_node:
        # Refusals for external addresses stand where packets come in and are forwarded, as with kube-proxy.
        return (
            "NONE",
            "there is no endpoint anywhere; what the node itself sends to this address is not refused, it leaves",
        )
    if not route.endpoints:
        return "REJECT", "there is no endpoint anywhere: refused with an ICMP error"
    return "DROP", f"none of the {len(route.endpoints)} endpoints is on this node: dropped"


def _masquerade(
    route: ServiceRoute, door: str, settings: TrafficSettings, question: Question, *, is_pod: bool
) -> tuple[bool, str]:
    if door == CLUSTER_IP:
        if settings.masquerade_all:
            return True, "masqueradeAll: the endpoint sees this node's address"
        by_address = any((":" in cidr) == (route.family == 6) for cidr in settings.cluster_cidrs)
        if (settings.pod_bridge or settings.pod_interface_prefix or by_address) and not is_pod:
            return True, "the client is no pod: the endpoint sees this node's address, so that answers come back here"
        return False, "the endpoint sees the client's address"
    if not route.external_local:
        return True, "the endpoint may be on another node: it sees this node's address, so that answers come back here"
    if question.client_is_node:
        return True, "the node's own packets to an external address are masqueraded"
    return False, "the endpoint sees the client's address"
