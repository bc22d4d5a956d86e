"""`longshore services`: what the proxy has programmed, and what it could not.

Before: the proxy's local API. Effects: prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from cli.failure import NOT_FOUND, Failure
from cli.output import format_option, print_errors, print_problem, print_table, print_value
from cli.target import Target, pass_target

HEADER = ("NAMESPACE", "NAME", "TYPE", "ADDRESS", "NODE PORT", "ENDPOINTS")
WIDE_HEADER = (
    "NAMESPACE",
    "NAME",
    "TYPE",
    "ADDRESS",
    "NODE PORT",
    "EXTERNAL",
    "POLICY",
    "AFFINITY",
    "SELECTOR",
    "SOURCE",
    "ENDPOINTS",
)
_SHOWN = 3


@click.command()
@click.argument("names", nargs=-1, metavar="[SERVICE]...")
@click.option("-n", "--namespace", help="Only services of this namespace.")
@format_option("table", "wide", "json", "yaml", "name")
@pass_target
def services(target: Target, names: tuple[str, ...], namespace: str | None, output: str) -> None:
    """Show the services of this node with their addresses and endpoints."""
    answer = target.proxy("/v1/services")
    found = [one for one in answer.get("services", []) if namespace in (None, one["namespace"])]
    if names:
        found = [service for name in names for service in _named(found, name)]
    if output in ("json", "yaml"):
        print_value({**answer, "services": found}, output)
        return
    if output == "name":
        for service in found:
            click.echo(f"service/{service['name']}")
        return
    wide = output == "wide"
    if found:
        print_table(WIDE_HEADER if wide else HEADER, [row for one in found for row in service_rows(one, wide)])
    else:
        click.echo("No services.", err=True)
    for service in found:
        for problem in service.get("problems", []):
            field = f"{problem['field']}: " if problem.get("field") else ""
            text = f"cannot program {service['namespace']}/{service['name']}: {field}{problem.get('message', '')}"
            print_problem(text)
    if answer.get("outOfDate"):
        print_problem(f"the kernel does not hold this yet: {answer['outOfDate']}")
    print_errors(answer.get("errors", []))


def service_rows(service: Mapping[str, Any], wide: bool) -> Iterator[tuple[str, ...]]:
    """A row for each port; a service without ports (headless, external) has one row all the same."""
    for port in service.get("ports") or [None]:
        address, node_port, endpoints = service.get("clusterIP") or "None", "<none>", "<none>"
        if port is not None:
            address = f"{address}:{port['port']}/{port['protocol']}"
            node_port = str(port.get("nodePort") or "<none>")
            if service.get("clusterIP"):
                # With policy Local the address only sends to endpoints of this node.
                only_local = service.get("internalTrafficPolicy") == "Local" and not port.get("nodePort")
                endpoints = _endpoints(port, all_of_them=wide, only_local=only_local)
        row = (service["namespace"], service["name"], service["type"], address, node_port)
        if not wide:
            yield (*row, endpoints)
            continue
        policy = f"{service.get('internalTrafficPolicy')}/{service.get('externalTrafficPolicy')}"
        affinity = service.get("sessionAffinityTimeoutSeconds")
        selector = ",".join(f"{key}={value}" for key, value in (service.get("selector") or {}).items())
        affinity_text = f"ClientIP {affinity}s" if affinity is not None else "None"
        external = ",".join((*service.get("externalIPs", ()), *service.get("loadBalancerIPs", ())))
        others = service.get("clusterIPs", ())[1:]
        everywhere = ",".join((address, *others))
        yield (
            *row[:3],
            everywhere,
            node_port,
            external or "<none>",
            policy,
            affinity_text,
            selector or "<none>",
            str(service.get("source", "")),
            endpoints,
        )


def _endpoints(port: Mapping[str, Any], *, all_of_them: bool, only_local: bool) -> str:
    if not port.get("programmed", True):
        return "<not programmed>"
    keys = ("localEndpoints",) if only_local else ("endpoints", "localEndpoints")
    known = {(one["ip"], one["port"]) for key in keys for one in port.get(key) or ()}
    texts = [f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}" for ip, number in sorted(known)]
    if not texts:
        return "<none> (none on this node)" if only_local else "<none> (connections are refused)"
    shown = texts if all_of_them else texts[:_SHOWN]
    more = len(texts) - len(shown)
    return ",".join(shown) + (f" + {more} more" if more else "")


def _named(services: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    namespace, _, base = name.removeprefix("service/").removeprefix("svc/").rpartition("/")
    found = [one for one in services if one["name"] == base and namespace in ("", one["namespace"])]
    if not found:
        raise Failure(f"cannot find service {name!r}", NOT_FOUND)
    return found
