"""`longshore proxy ...`: why the proxy does what it does.

Before: the proxy's local API; for `plan` the files and the kernel themselves. Effects: prints.
"""

from __future__ import annotations

import asyncio
import ipaddress
import urllib.parse
from pathlib import Path

import click

from cli.failure import BAD_MANIFEST, FAILED, Failure
from cli.output import print_problem, print_value
from cli.target import Target, pass_target

DEFAULT_CONFIG = "/etc/longshore/proxy.yaml"


@click.group()
def proxy() -> None:
    """Look into the service proxy."""


@proxy.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="Configuration file the proxy would have; one that does not exist means the defaults.",
)
@pass_target
def plan(target: Target, config: Path) -> None:
    """Print the rules that the proxy would write if it started now. Writes nothing.

    Only what differs from the kernel is printed, as the input of iptables-restore: nothing where a proxy with this
    configuration already runs. Exit status 1 when the kernel's rules cannot be read.
    """
    from proxy.backend import BackendError
    from proxy.config import ConfigError, load_config
    from proxy.plan import make_plan

    flags = [f"--agent-socket={target.agent_socket}"]
    if (directory := target.followed_services_dir()) is not None:
        flags.append(f"--manifest-dir={directory}")
    try:
        settings = load_config([f"--config={config}", *flags] if config.exists() else flags)
        made = asyncio.run(make_plan(settings))
    except ConfigError as error:
        raise Failure(str(error), BAD_MANIFEST) from None
    except (BackendError, OSError) as error:
        raise Failure(str(error), FAILED) from None
    for note in made.notes:
        print_problem(note)
    for command, text in made.restores:
        click.echo(f"# {command}\n{text}" if text else f"# {command}: nothing to write")


@proxy.command()
@click.argument("client")
@click.argument("service", metavar="ADDRESS:PORT[/PROTOCOL]")
@click.option("-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True)
@pass_target
def explain(target: Target, client: str, service: str, output: str) -> None:
    """Say where a connection of CLIENT to a service goes, and why.

    CLIENT is an IP address. Nothing is sent: the answer is read from what the proxy has decided.

    \b
    longshore proxy explain 10.244.0.7 10.96.0.10:80
    longshore proxy explain fd00:244::7 [fd00:96::10]:53/udp
    """
    address, port, protocol = split_service(service)
    question = urllib.parse.urlencode({"client": client, "address": address, "port": port, "protocol": protocol})
    try:
        ipaddress.ip_address(client)
    except ValueError:
        raise click.BadParameter(f"{client!r} is not an IP address", param_hint="CLIENT") from None
    answer = target.proxy(f"/v1/explain?{question}")
    if output != "text":
        print_value(answer, output)
        return
    for number, reason in enumerate(answer["reasons"], 1):
        click.echo(f"{number}. {reason}")
    for one in answer["endpoints"]:
        ip = f"[{one['ip']}]" if ":" in one["ip"] else one["ip"]
        click.echo(f"   {ip}:{one['port']}{' (this node)' if one['local'] else ''}")
    click.echo(f"verdict: {answer['verdict']}{', masqueraded' if answer['masquerade'] else ''}")


def split_service(text: str) -> tuple[str, int, str]:
    """(address, port, protocol) of ADDRESS:PORT[/PROTOCOL]. Raises click.BadParameter."""
    where, _, protocol = text.partition("/")
    host, _, port = where.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host.replace(":", "?")
    try:
        address, number = str(ipaddress.ip_address(bare)), int(port)
    except ValueError:
        address, number = "", 0
    protocol = (protocol or "TCP").upper()
    if not 0 < number < 65536 or protocol not in ("TCP", "UDP", "SCTP"):
        hint = "such as 10.96.0.10:80 or [fd00::1]:53/udp"
        raise click.BadParameter(f"{text!r} is not an address with a port, {hint}", param_hint="ADDRESS:PORT")
    return address, number, protocol
