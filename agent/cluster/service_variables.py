"""The variables that tell a container of the Services around it.  Pure.

Before: `services` follows all Services.  Next: `agent/container_spec/env` adds them to the container's own.  Source:
Kubernetes documentation, "Discovering services", environment variables and Docker's old links.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kube_client.messages import Key, decode_object

MASTER = ("default", "kubernetes")


class _Meta(msgspec.Struct):
    name: str
    namespace: str = ""


class Port(msgspec.Struct, frozen=True):
    """A port of a Service."""

    port: int
    name: str = ""
    protocol: str = "TCP"


class _Spec(msgspec.Struct):
    clusterIP: str = ""  # noqa: N815 - the API's name
    ports: list[Port] | None = None


class _Service(msgspec.Struct):
    metadata: _Meta
    spec: _Spec


class ServiceFacts(msgspec.Struct, frozen=True):
    """As much of a Service as variables tell."""

    namespace: str
    name: str
    cluster_ip: str
    ports: tuple[Port, ...]


def read_service(raw: bytes) -> ServiceFacts | None:
    """None for one without an address or ports. Raises ValueError that names the field."""
    found = decode_object(raw, _Service)
    if found.spec.clusterIP in ("", "None") or not found.spec.ports:
        return None
    return ServiceFacts(
        found.metadata.namespace, found.metadata.name, found.spec.clusterIP, tuple(found.spec.ports or ())
    )


def service_variables(services: Iterable[ServiceFacts], namespace: str, *, links: bool) -> dict[str, str]:
    """Those of the API server's own Service, and with `links` (enableServiceLinks) of all in the pod's namespace."""
    chosen: dict[str, ServiceFacts] = {}
    for one in services:
        key: Key = one.namespace, one.name
        if (links and one.namespace == namespace) or (key == MASTER and one.name not in chosen):
            chosen[one.name] = one
    found: dict[str, str] = {}
    for name in sorted(chosen):
        found.update(_of_service(chosen[name]))
    return found


def _of_service(one: ServiceFacts) -> dict[str, str]:
    prefix, address = _variable(one.name), one.cluster_ip
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(one.ports[0].port)}
    for port in one.ports:
        if port.name:
            found[f"{prefix}_SERVICE_PORT_{_variable(port.name)}"] = str(port.port)
    host = f"[{address}]" if ":" in address else address
    for number, port in enumerate(one.ports):
        protocol = port.protocol.lower()
        url = f"{protocol}://{host}:{port.port}"
        if number == 0:
            found[f"{prefix}_PORT"] = url
        link = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        found |= {link: url, f"{link}_PROTO": protocol, f"{link}_PORT": str(port.port), f"{link}_ADDR": address}
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
