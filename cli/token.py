"""`longshore control-plane token ...`: the short-lived secrets by which other machines join. I/O: Secrets of a cluster.

Before: `longshore up` has made admin.conf. Next: `longshore join` on another machine; the cluster's token cleaner takes
away those that have expired.
"""

from __future__ import annotations

import datetime
import json
import secrets
import string
from urllib.parse import quote

import click

from cli import api
from cli.ages import short_duration
from cli.cluster import Cluster, ClusterOptions, pass_options, shows_failures
from cli.failure import NOT_FOUND, Failure
from cli.output import format_option, print_table, print_value
from control_plane.bootstrap import (
    TOKEN_SECRETS,
    TOKEN_TYPE,
    TokenState,
    authority_pin,
    parse_token,
    read_token,
    token_path,
    token_secret,
)
from daemonkit.duration import parse_duration
from kube_client.config import ApiConfig

HEADER = ("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")
_LETTERS = string.ascii_lowercase + string.digits


@click.group(invoke_without_command=True)
@click.option("--ttl", default="24h", show_default=True, help="How long it is good.")
@pass_options
@click.pass_context
@shows_failures
def token(context: click.Context, options: ClusterOptions, ttl: str) -> None:
    """Make a token, and print the command by which another machine joins with it."""
    if context.invoked_subcommand is not None:
        return
    cluster = options.open()
    try:
        valid = datetime.timedelta(seconds=parse_duration(ttl))
    except ValueError as error:
        raise Failure(f"cannot make a token: --ttl: {error}") from None
    click.echo(join_command(cluster, make_token(cluster, valid)[0]))


@token.command("list")
@format_option("table", "json", "yaml")
@pass_options
@shows_failures
def list_tokens(options: ClusterOptions, output: str) -> None:
    """Show the cluster's tokens, and how long each is good."""
    answer = api.get(_admin(options.open()), TOKEN_SECRETS, {"fieldSelector": f"type={TOKEN_TYPE}"})
    found = [state for one in json.loads(answer).get("items") or () if (state := read_token(one)) is not None]
    if output == "table":
        now = datetime.datetime.now(datetime.UTC)
        print_table(HEADER, [_row(state, now) for state in found])
    else:
        print_value([_value(state) for state in found], output)


@token.command()
@click.argument("tokens", nargs=-1, required=True, metavar="TOKEN...")
@pass_options
@shows_failures
def delete(options: ClusterOptions, tokens: tuple[str, ...]) -> None:
    """Take tokens away, so that nobody joins with them any more; TOKEN is a whole one or what is before its dot."""
    admin = _admin(options.open())
    for one in tokens:
        name = one.partition(".")[0]
        try:
            api.delete(admin, token_path(quote(name, safe="")))
        except Failure as failure:
            if failure.exit_code != NOT_FOUND:
                raise
            raise Failure(f"cannot delete token {name}: there is none of that name", NOT_FOUND) from None
        click.echo(f"token {name} deleted")


def make_token(cluster: Cluster, valid: datetime.timedelta) -> tuple[str, api.Json]:
    """A token and its Secret as the API server has it.  Raises Failure."""
    made = ".".join("".join(secrets.choice(_LETTERS) for _ in range(length)) for length in (6, 16))
    secret = token_secret(made, datetime.datetime.now(datetime.UTC) + valid)
    path = token_path(parse_token(made)[0])
    api.apply(_admin(cluster), path, secret)
    return made, json.loads(api.get(_admin(cluster), path))


def join_command(cluster: Cluster, made: str) -> str:
    """For another machine, with this token.  Raises ControlPlaneError."""
    pin = authority_pin(cluster.pki.authority().certificate)
    return f"longshore join {cluster.settings.server} --token {made} --discovery-token-ca-cert-hash {pin}"


def _admin(cluster: Cluster) -> ApiConfig:
    return api.access(cluster.places.kubeconfig("admin"))


def _row(state: TokenState, now: datetime.datetime) -> tuple[str, ...]:
    left, expires = "<forever>", "<never>"
    if state.expires is not None:
        seconds = (state.expires - now).total_seconds()
        left, expires = short_duration(seconds) if seconds > 0 else "<expired>", f"{state.expires:%Y-%m-%d %H:%M}"
    return (state.token, left, expires, ",".join(state.usages), state.description, ",".join(state.groups))


def _value(state: TokenState) -> dict[str, object]:
    return {
        "token": state.token,
        "expires": state.expires.isoformat().replace("+00:00", "Z") if state.expires else "",
        "usages": list(state.usages),
        "description": state.description,
        "groups": list(state.groups),
    }
