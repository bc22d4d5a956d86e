"""The addresses of a Service object: cluster IPs, external IPs, load balancer ingress and its source ranges.  Pure.

Before: `proxy.sources.service_manifest` reads the rest of the object.  Next: `ServiceFacts`.
Source: core/v1 ServiceSpec and LoadBalancerStatus, validated as the API server does it.
"""

from __future__ import annotations

import ipaddress

from kube_objects.names import is_dns_subdomain
from proxy.endpoints import is_plain_ipv4, refuse_address
from proxy.services import family_of
from proxy.sources.api_types import Service, ServiceSpec
from proxy.sources.invalid import Invalid, Path, one_of, refuse

NODE_PORT_RANGE = range(30000, 32768)


def cluster_ips(spec: ServiceSpec, kind: str) -> tuple[str, ...]:
    """Canonical text, one per family; () for headless and ExternalName.  Raises Invalid."""
    given = spec.clusterIP or ""
    path: Path = ("spec", "clusterIP")
    if spec.clusterIPs and spec.clusterIPs[0] != given:
        refuse(("spec", "clusterIPs", 0), f"must be the same as spec.clusterIP ({given!r})")
    if kind == "ExternalName":
        if given and given != "None":
            refuse(path, "may not be set for ExternalName services")
        if not spec.externalName or is_dns_subdomain(spec.externalName.removesuffix(".")):
            refuse(("spec", "externalName"), "an ExternalName service needs a DNS name here")
        return ()
    if given == "None":
        if kind != "ClusterIP":
            refuse(path, f"may not be 'None' for {kind} services")
        return ()
    if not given:
        refuse(path, "a node that works alone allocates no address: choose a free one, or None for a headless service")
    first = _service_address(given, path)
    others = [
        _service_address(text, ("spec", "clusterIPs", index))
        for index, text in enumerate((spec.clusterIPs or [given])[1:], 1)
    ]
    found = (first, *others)
    _check_families(spec, found)
    return found


def external_ips(spec: ServiceSpec) -> tuple[str, ...]:
    """Canonical text.  Raises Invalid."""
    return tuple(
        _service_address(text, ("spec", "externalIPs", index)) for index, text in enumerate(spec.externalIPs or ())
    )


def load_balancer_ips(service: Service, kind: str) -> tuple[str, ...]:
    """Ingress addresses that packets carry here.  Raises Invalid.

    A balancer of mode Proxy delivers to node ports or pods itself, and one known by name only has no address to serve.
    """
    ingress = service.status.loadBalancer.ingress if service.status and service.status.loadBalancer else None
    found = []
    for index, entry in enumerate(ingress or ()):
        path: Path = ("status", "loadBalancer", "ingress", index)
        if kind != "LoadBalancer":
            refuse(path[:3], f"may not be used when spec.type is {kind}")
        one_of((*path, "ipMode"), entry.ipMode or "VIP", ("VIP", "Proxy"))
        if not entry.ip:
            if entry.ipMode:
                refuse((*path, "ipMode"), "may only be used together with ip")
            continue
        address = _service_address(entry.ip, (*path, "ip"))
        if (entry.ipMode or "VIP") == "VIP":
            found.append(address)
    return tuple(dict.fromkeys(found))


def source_ranges(spec: ServiceSpec, kind: str) -> tuple[str, ...]:
    """CIDRs in canonical text.  Raises Invalid."""
    given = spec.loadBalancerSourceRanges or []
    if given and kind != "LoadBalancer":
        refuse(("spec", "loadBalancerSourceRanges"), f"may not be used when spec.type is {kind}")
    found = []
    for index, text in enumerate(given):
        path = ("spec", "loadBalancerSourceRanges", index)
        if "/" not in text:
            refuse(path, f"{text!r} is not a CIDR such as 10.0.0.0/8")
        try:
            found.append(str(ipaddress.ip_network(text.strip(), strict=False)))
        except ValueError:
            raise Invalid(path, f"{text!r} is not a CIDR such as 10.0.0.0/8") from None
    return tuple(found)


def health_check_node_port(spec: ServiceSpec, kind: str, external_local: bool, node_ports: range) -> int:
    """0 when there is none.  Raises Invalid."""
    given = spec.healthCheckNodePort or 0
    path = ("spec", "healthCheckNodePort")
    if given and not (kind == "LoadBalancer" and external_local):
        refuse(path, "may only be used when spec.type is LoadBalancer and spec.externalTrafficPolicy is Local")
    if given and given not in node_ports:
        refuse(path, f"{given} is outside of {range_text(node_ports)}")
    return given


def range_text(ports: range) -> str:
    """As in 30000-32767."""
    return f"{ports.start}-{ports.stop - 1}"


def _service_address(text: str, path: Path) -> str:
    if is_plain_ipv4(text):
        return text
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Invalid(path, f"{text!r} is not an IP address") from None
    if problem := refuse_address(text, address):
        refuse(path, f"{problem}, which no service may have")
    return str(address)


def _check_families(spec: ServiceSpec, found: tuple[str, ...]) -> None:
    if len(found) > 2:
        refuse(("spec", "clusterIPs"), "may have at most two addresses")
    families = [f"IPv{family_of(address)}" for address in found]
    if len(set(families)) != len(families):
        refuse(("spec", "clusterIPs", 1), f"must not be of {families[0]} like the first one")
    policy = spec.ipFamilyPolicy or ("SingleStack" if len(found) == 1 else "RequireDualStack")
    one_of(("spec", "ipFamilyPolicy"), policy, ("SingleStack", "PreferDualStack", "RequireDualStack"))
    if policy == "SingleStack" and len(found) == 2:
        refuse(("spec", "ipFamilyPolicy"), "SingleStack allows one cluster IP only")
    if policy == "RequireDualStack" and len(found) == 1:
        refuse(("spec", "ipFamilyPolicy"), "a node that works alone allocates no second address: add it to clusterIPs")
    for index, family in enumerate(spec.ipFamilies or ()):
        one_of(("spec", "ipFamilies", index), family, ("IPv4", "IPv6"))
        if families[index : index + 1] != [family] and not (index == 1 and policy == "PreferDualStack"):
            refuse(("spec", "ipFamilies", index), f"{family} is not the family of spec.clusterIPs[{index}]")
