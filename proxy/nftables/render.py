"""Routes -> elements.  Pure, no I/O.

Before: `proxy.routes` (policies are resolved, nothing here looks at an API object).  Next: `proxy.nftables.diff`.

Where an endpoint stands among the others of its service (the number behind its front end in `endpoints`) is kept while
it stays: one that leaves is replaced by the last one, so that a change costs two elements whatever the size.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.nftables.frame import (
    ENDPOINT_SETS,
    NODE,
    PROTOCOLS,
    STICKY,
    STICKY_PORTS,
    VIP,
    Kind,
    disjoint,
    fixed_chains,
    node_port_ranges,
    schema_digest,
    service_ranges,
    set_definitions,
    varying_chain,
)
from proxy.nftables.model import Element, Table
from proxy.routes import Endpoint, PortName, ServiceRoute, TrafficSettings, Verdict

Identities = tuple[str, ...]
Orders = Mapping[tuple[str, str], Mapping[int, str]]
"""(set, front end) -> number -> target, as it was."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one route needs in the kernel."""

    route: ServiceRoute
    elements: tuple[Element, ...]
    chains: tuple[str, ...]
    """Varying chains that the elements lead to."""
    identities: Identities = ()
    """With session affinity: by what clients of policy Cluster and of policy Local are remembered."""


Parts = Mapping[PortName, Part]


def render_parts(
    routes: Iterable[ServiceRoute], family: int, before: Parts, kernel: Orders | None = None
) -> dict[PortName, Part]:
    """The parts of one family's routes; one whose route did not change is the same object as before.

    `kernel` gives the numbers of endpoints where `before` is not known, after a start.
    """
    parts: dict[PortName, Part] = {}
    names = Identifiers(before)
    for route in routes:
        if route.family != family:
            continue
        old = before.get(route.name)
        if old is not None and (old.route is route or old.route == route):
            parts[route.name] = old
        else:
            parts[route.name] = render_part(route, orders(old.elements) if old else kernel or {}, names)
    return parts


def usual_port(endpoints: tuple[Endpoint, ...]) -> int:
    """The port that most of them have; of several the smallest."""
    ports = Counter(endpoint.port for endpoint in endpoints)
    return min(ports, key=lambda port: (-ports[port], port))


class Identifiers:
    """Gives every service port with session affinity numbers that no other has.

    A number is a digest of the name, so that it is the same after a restart; in the rare case that two names have one
    digest, the later takes the next number.
    """

    def __init__(self, parts: Parts | None = None) -> None:
        self._parts = parts or {}
        self._owners: dict[str, PortName] | None = None
        """None until somebody asks: most changes are of services without affinity."""

    def of(self, route: ServiceRoute) -> tuple[str, str]:
        """For policy Cluster and for policy Local, in nft's spelling of a priority.

        For IPv6 one identity has one target port: another one is another identity, so that nobody is led to an old
        endpoint's address and a new one's port.
        """
        cluster, local = (
            f" {usual_port(each)}" if route.family == 6 and each else ""
            for each in (route.endpoints, route.local_endpoints)
        )
        return self._free(route.name, f"cluster{cluster}"), self._free(route.name, f"local{local}")

    def _free(self, name: PortName, policy: str) -> str:
        if self._owners is None:
            self._owners = {each: part.route.name for part in self._parts.values() for each in part.identities}
        digest = hashlib.sha256(f"{name} {name.protocol} {policy}".encode()).digest()
        number = int.from_bytes(digest[:4], "big")
        while True:
            # Priorities that somebody may have chosen on purpose are small, and all ones has a meaning of its own.
            major, minor = number >> 16 & 0x7FFF | 0x8000, number & 0x7FFF
            if self._owners.setdefault(text := f"{major:x}:{minor:x}", name) == name:
                return text
            number += 1


def whole_table(parts: Parts, settings: TrafficSettings, family: int) -> Table:
    """Everything that the kernel should hold."""
    chains = fixed_chains(settings, family)
    elements: dict[str, dict[str, str]] = {name: {} for name in set_definitions(family)}
    for range_text in node_port_ranges(settings, family):
        elements["node-port-addresses"][range_text] = ""
    for range_text in service_ranges(settings, family):
        elements["service-cidrs"][range_text] = ""
    for part in parts.values():
        for name in part.chains:
            if name not in chains:
                chains[name] = varying_chain(name, family)
        for element in part.elements:
            elements[element.set][element.key] = element.data
    return Table(schema_digest(family), chains, elements)


def orders(elements: Iterable[Element]) -> Orders:
    """The numbers of endpoints in these elements."""
    found: dict[tuple[str, str], dict[int, str]] = {}
    for name, key, data in elements:
        if name in ENDPOINT_SETS:
            front, _, number = key.rpartition(" . ")
            found.setdefault((name, front), {})[int(number)] = data
    return found


def table_orders(table: Table) -> Orders:
    """The same of a whole table."""
    return orders(Element(name, *item) for name in ENDPOINT_SETS for item in table.elements.get(name, {}).items())


def place(before: Mapping[int, str], wanted: Iterable[str]) -> list[str]:
    """Number `wanted` from 0: those that were there keep their number where it is still in use."""
    missing = dict.fromkeys(wanted)
    placed = [""] * len(missing)
    for number, target in before.items():
        if number < len(placed) and target in missing:
            placed[number] = target
            del missing[target]
    rest = iter(missing)
    return [target or next(rest) for target in placed]


def render_part(route: ServiceRoute, before: Orders, names: Identifiers) -> Part:
    """The elements of one service port."""
    identities: Identities = () if route.affinity_timeout_s is None else names.of(route)
    build = _Builder(route, before, identities)
    build.cluster_ip()
    for address in route.external_addresses:
        build.external(Front(VIP, address, build.protocol, route.port))
    if route.allowed_sources and not any(each.endswith("/0") for each in route.allowed_sources):
        build.restrict()  # with endpoints or without, as by kube-proxy in this mode
    if route.node_port:
        build.external(Front(NODE, "", build.protocol, route.node_port))
    return Part(route, tuple(dict.fromkeys(build.elements)), tuple(dict.fromkeys(build.chains)), identities)


@dataclass(frozen=True, slots=True)
class Front:
    """Where clients connect to."""

    kind: Kind
    address: str
    """"" for a port on the node's addresses."""
    protocol: int
    port: int

    @property
    def key(self) -> str:
        """Its key in every map but those of endpoints."""
        text = f"{self.protocol} . {self.port}"
        return f"{self.address} . {text}" if self.address else text

    @property
    def numbered(self) -> str:
        """What stands before the number in a map of endpoints, which is one protocol's."""
        return f"{self.address} . {self.port}" if self.address else str(self.port)


class _Builder:
    """Collects the elements of one route."""

    def __init__(self, route: ServiceRoute, before: Orders, identities: Identities) -> None:
        self.route = route
        self._identities = identities
        self.protocol = PROTOCOLS[route.name.protocol]
        self.elements: list[Element] = []
        self.chains: list[str] = []
        self._before = before
        self._spread = "spread" if route.affinity_timeout_s is None else "sticky"

    def cluster_ip(self) -> None:
        route = self.route
        self._add("cluster-ips", route.cluster_ip)
        front = Front(VIP, route.cluster_ip, self.protocol, route.port)
        if self._refuse(front, route.internal_verdict):
            return
        chosen = route.internal_endpoints
        self._add("services", front.key, self._goto(f"{self._spread}-{len(chosen)}"))
        self._endpoints("", front, chosen, local=route.internal_local)

    def external(self, front: Front) -> None:
        """A front end that clients outside the cluster use."""
        route, prefix = self.route, front.kind.prefix
        self._refuse(front, route.external_verdict)
        if not route.endpoints:
            return
        self._endpoints("", front, route.endpoints)
        count = len(route.endpoints)
        if not route.external_local:
            self._add(f"{prefix}services", front.key, self._goto(f"{prefix}external-{self._spread}-{count}"))
            return
        self._add(f"{prefix}services", front.key, f"goto {prefix}external-local")
        self._add(f"{prefix}inside", front.key, self._goto(f"{prefix}{self._spread}-{count}"))
        here = route.local_endpoints
        if here:
            self._add(f"{prefix}outside", front.key, self._goto(f"{prefix}local-{self._spread}-{len(here)}"))
            self._endpoints("local-", front, here, local=True)

    def restrict(self) -> None:
        """loadBalancerSourceRanges."""
        for address in self.route.load_balancer_ips:
            front = f"{address} . {self.protocol} . {self.route.port}"
            self._add("restricted", front)
            for source in disjoint(self.route.allowed_sources):
                self._add("allowed-sources", f"{front} . {source}")

    def _refuse(self, front: Front, verdict: Verdict) -> bool:
        if verdict != "ACCEPT":
            self._add(f"{front.kind.prefix}refused", front.key, "goto refuse" if verdict == "REJECT" else "drop")
        return verdict != "ACCEPT"

    def _goto(self, chain: str) -> str:
        self.chains.append(chain)
        return f"goto {chain}"

    def _endpoints(self, group: str, front: Front, chosen: tuple[Endpoint, ...], *, local: bool = False) -> None:
        """`group` is "" or "local-", the maps; `local` says that clients are remembered as those of policy Local."""
        prefix = f"{front.kind.prefix}{group}"
        name = f"{prefix}endpoints-{self.route.name.protocol.lower()}"
        targets = [f"{endpoint.ip} . {endpoint.port}" for endpoint in chosen]
        for number, target in enumerate(place(self._before.get((name, front.numbered), {}), targets)):
            self._add(name, f"{front.numbered} . {number}", target)
        for endpoint in chosen:
            self._add("hairpin", f"{endpoint.ip} . {endpoint.ip}")
        if self._identities:
            identity = self._identities[local]
            self._add(f"{prefix}identities", front.key, identity)
            remember = f"remember-{self.route.affinity_timeout_s}"
            self.chains.append(remember)
            port = usual_port(chosen) if self.route.family == 6 else None
            if port is not None:
                self._add(STICKY_PORTS, identity, str(port))
            for endpoint, target in zip(chosen, targets, strict=True):
                if port in (None, endpoint.port):
                    self._add(STICKY, f"{identity} . {target}", f"jump {remember}")

    def _add(self, name: str, key: str, data: str = "") -> None:
        self.elements.append(Element(name, key, data))
