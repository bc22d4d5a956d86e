"""What routes and rules depend on that the node itself knows: its addresses, its zone.  Asks the kernel for a route.

Before: `proxy.config`, and the Node object where there is an API server.  Next: `NodeFacts` for `proxy.resolve`,
`TrafficSettings` for the backend.
"""

from __future__ import annotations

import ipaddress
import socket

from proxy.config import ProxyConfig
from proxy.routes import NodeFacts, TrafficSettings
from proxy.services import family_of
from proxy.sources.api_objects import NodeObject

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_ELSEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
_NO_OBJECT = NodeObject()
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}


def primary_address(bind_address: str, family: int, told: tuple[str, ...] = ()) -> str:
    """The node's primary address of a family: bindAddress where it names one, else what the Node object has `told`,
    else the source address of the default route; "" while there is none.
    """
    bound = ipaddress.ip_address(bind_address)
    if not bound.is_unspecified and bound.version == family:
        return bind_address
    if address := next((address for address in told if family_of(address) == family), ""):
        return address
    try:
        with socket.socket(_FAMILIES[family], socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.connect((_ELSEWHERE[family], 9))  # sends nothing: the kernel only chooses the route
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def node_facts(
    config: ProxyConfig, families: tuple[int, ...], family_problem: str, node: NodeObject = _NO_OBJECT
) -> NodeFacts:
    """The node as `proxy.resolve` wants to know it."""
    addresses = (primary_address(config.bind_address, family, node.addresses) for family in families)
    return NodeFacts(
        name=config.node_name,
        zone=node.zone or config.zone,
        addresses=tuple(address for address in addresses if address),
        families=families,
        family_problem=family_problem,
        deny_external_ips=config.deny_external_ips,
    )


def traffic_settings(
    config: ProxyConfig,
    before: tuple[str, ...] = (),
    node: NodeObject = _NO_OBJECT,
    service_cidrs: tuple[str, ...] = (),
) -> TrafficSettings:
    """What of the configuration shapes rules.  `before` (CIDRs) stand in where the primary address is not to be had."""
    addresses = config.node_port_addresses
    if addresses == ("primary",):
        found = {family: primary_address(config.bind_address, family, node.addresses) for family in (4, 6)}
        addresses = tuple(_primary_network(found[family], family, before) for family in (4, 6))
    pod_cidrs = {"ClusterCIDR": config.cluster_cidrs, "NodeCIDR": node.pod_cidrs}
    return TrafficSettings(
        masquerade_all=config.masquerade_all,
        masquerade_bit=config.masquerade_bit,
        cluster_cidrs=pod_cidrs.get(config.detect_local_mode, ()),
        pod_bridge=config.pod_bridge if config.detect_local_mode == "BridgeInterface" else "",
        pod_interface_prefix=config.pod_interface_prefix if config.detect_local_mode == "InterfaceNamePrefix" else "",
        node_port_addresses=addresses,
        # Where no node port may answer on loopback, nothing needs the dangerous sysctl.
        localhost_node_ports=config.localhost_node_ports and _has_loopback(addresses),
        localnet_note=localnet_note(config),
        service_cidrs=service_cidrs,
        conntrack_tcp_be_liberal=config.conntrack.tcp_be_liberal,
    )


def localnet_note(config: ProxyConfig) -> str:
    """Beside the API socket, in a directory that a reboot empties, as it sets the kernel's settings back."""
    return str(config.api_socket.with_suffix(".route-localnet"))


def _primary_network(address: str, family: int, before: tuple[str, ...]) -> str:
    known = next((cidr for cidr in before if ipaddress.ip_network(cidr).version == family), "")
    return str(ipaddress.ip_network(address)) if address else known or str(ipaddress.ip_network(_LOOPBACK[family]))


def _has_loopback(cidrs: tuple[str, ...]) -> bool:
    networks = [network for cidr in cidrs if (network := ipaddress.ip_network(cidr, strict=False)).version == 4]
    return not networks or any(network.overlaps(ipaddress.ip_network("127.0.0.0/8")) for network in networks)
