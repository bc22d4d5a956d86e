"""`longshore control-plane upgrade plan`: what another Kubernetes release would change, and what stands in its way.

Before: `cli.control_plane` knows which cluster.  Next: a person runs the command that is named at the end.  Changes
nothing; asks the API server, and does without it.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from cli import api
from cli.cluster import SOON, Cluster, ClusterOptions, all_states, pass_options, shows_failures
from cli.failure import FAILED, NOT_FOUND, Failure
from cli.output import format_option, print_table, print_value
from control_plane.manifest_files import render_manifest
from control_plane.manifests import MORE_TRUSTED, manifests
from control_plane.settings import COMPONENTS, ClusterSettings, SettingsError, check_settings
from control_plane.upgrade import Plan, plan

HEADER = ("COMPONENT", "NOW", "THEN", "MANIFEST")
NEWEST = str({field.name: field.default for field in dataclasses.fields(ClusterSettings)}["kubernetes_version"])


@click.group()
def upgrade() -> None:
    """From one Kubernetes release to the next."""


@upgrade.command("plan")
@click.option("--to", "wanted", default=NEWEST, show_default=True, help="The release to go to.")
@format_option("table", "json", "yaml")
@pass_options
@click.pass_context
@shows_failures
def show_plan(context: click.Context, options: ClusterOptions, wanted: str, output: str) -> None:
    """Say what would change, and what stands in the way; exit status 1 where something does."""
    cluster = options.open()
    if not cluster.files.record.settings:
        raise Failure(
            f"cannot plan an upgrade: no control plane was made here ({cluster.files.record.path})", NOT_FOUND
        )
    after = dataclasses.replace(cluster.settings, kubernetes_version=wanted)
    try:
        check_settings(after)
    except SettingsError as error:
        raise Failure(str(error).replace("--kubernetes-version", "--to")) from None
    server, nodes = _running(cluster)
    found = plan(cluster.settings.kubernetes_version, wanted, server, nodes)
    rows = list(_changes(cluster, after))
    notes, problems = [*found.notes, *_expiring(cluster)], [*found.problems, *_unusable(cluster)]
    if output == "table":
        _print(found, rows, notes, problems)
    else:
        components = [dict(zip(("component", "now", "then", "manifest"), row, strict=True)) for row in rows]
        value = {"current": found.current, "wanted": found.wanted, "components": components}
        print_value({**value, "problems": problems, "notes": notes}, output)
    if problems:
        context.exit(FAILED)


def _print(found: Plan, rows: list[tuple[str, ...]], notes: list[str], problems: list[str]) -> None:
    print_table(HEADER, rows)
    for note in notes:
        click.echo(f"note: {note}")
    for problem in problems:
        click.echo(f"in the way: {problem}")
    if not problems and found.current != found.wanted:
        click.echo("first: longshore control-plane etcd snapshot save FILE, and a copy of the pki directory")
        click.echo(f"then:  longshore up --control-plane --kubernetes-version {found.wanted}")
        click.echo("nodes: after the control plane, one by one (kubectl drain, upgrade, kubectl uncordon)")


def _changes(cluster: Cluster, after: ClusterSettings) -> Iterator[tuple[str, ...]]:
    trusted = [path for path in MORE_TRUSTED if path.is_dir()]
    wanted = manifests(after, cluster.places, trusted)
    for component in COMPONENTS:
        now, then = cluster.settings.image(component), after.image(component)
        state = _manifest_state(cluster, cluster.places.manifest(component), render_manifest(wanted[component]))
        yield component, now, "the same" if now == then else then, state


def _manifest_state(cluster: Cluster, path: Path, wanted: bytes) -> str:
    there = cluster.files.read(path)
    if there is None:
        return "made"
    if there == wanted:
        return "stays"
    return "changes" if cluster.files.record.wrote(path, there) else "stays: it was edited"


def _expiring(cluster: Cluster) -> Iterator[str]:
    now = datetime.datetime.now(datetime.UTC)
    for state in all_states(cluster):
        if state.expires is not None and not state.problem and state.expires - now < SOON:
            yield f"certificate {state.name} expires soon; longshore control-plane certs renew {state.name}"


def _unusable(cluster: Cluster) -> Iterator[str]:
    """`longshore up` refuses them; what is only missing it makes."""
    for state in all_states(cluster):
        if state.problem and not state.problem.startswith("missing"):
            yield f"certificate {state.name}: {state.problem}"


def _running(cluster: Cluster) -> tuple[str, dict[str, str]]:
    """What this machine's API server is, whoever else may stand behind the endpoint, and the kubelets' releases."""
    kubeconfig = cluster.places.kubeconfig("admin")
    if not kubeconfig.exists():
        return "", {}
    try:
        version = api.look(api.access(kubeconfig, cluster.settings.local_server), "/version")
        nodes = api.look(api.access(kubeconfig), "/api/v1/nodes")
    except Failure as failure:
        click.echo(f"nodes are not looked at: {failure.message}", err=True)
        return "", {}
    if version is None:
        click.echo("this machine's API server does not answer: what it runs is not known", err=True)
    if nodes is None:
        click.echo("no API server answers: nodes are not looked at", err=True)
    items: list[dict[str, Any]] = msgspec.json.decode(nodes)["items"] if nodes else []
    kubelets = {one["metadata"]["name"]: one["status"]["nodeInfo"]["kubeletVersion"] for one in items}
    return str(msgspec.json.decode(version)["gitVersion"]) if version else "", kubelets
