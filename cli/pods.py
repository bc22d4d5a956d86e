"""`longshore pods`: the agent's pods, what each waits for, and the manifests that cannot be used.

Before: the agent's local API. Effects: prints.
"""

from __future__ import annotations

import datetime
from typing import Any

import click

from cli.failure import NOT_FOUND, Failure
from cli.output import format_option, print_errors, print_table, print_value
from cli.pod_rows import HEADER, WIDE_HEADER, pod_row
from cli.target import Target, pass_target


@click.command()
@click.argument("names", nargs=-1, metavar="[POD]...", shell_complete=lambda *given: complete_pods(*given))
@click.option("-n", "--namespace", help="Only pods of this namespace.")
@format_option("table", "wide", "json", "yaml", "name")
@pass_target
def pods(target: Target, names: tuple[str, ...], namespace: str | None, output: str) -> None:
    """Show the pods of this node and what they wait for."""
    answer = target.agent("/v1/pods")
    node_name = _node_name(target, answer) if names else ""
    entries = [one for one in answer.get("pods", []) if namespace in (None, _metadata(one).get("namespace"))]
    if names:
        entries = [entry for name in names for entry in find_pods(entries, name, node_name)]
    if output in ("json", "yaml"):
        print_value({**answer, "pods": entries}, output)
        return
    if output == "name":
        for entry in entries:
            click.echo(f"pod/{_metadata(entry)['name']}")
        return
    entries.sort(key=lambda entry: (_metadata(entry).get("namespace", ""), _metadata(entry).get("name", "")))
    now = datetime.datetime.now(datetime.UTC)
    wide = output == "wide"
    if entries:
        print_table(WIDE_HEADER if wide else HEADER, [pod_row(entry, now, wide) for entry in entries])
    else:
        click.echo("No pods.", err=True)
    print_errors(answer.get("errors", []))


def find_pods(entries: list[dict[str, Any]], name: str, node_name: str) -> list[dict[str, Any]]:
    """Entries of that name: "web-node1", "web" as in the manifest, "pod/web", "namespace/web". Raises Failure."""
    namespace, _, base = name.removeprefix("pod/").removeprefix("pods/").rpartition("/")
    found = [
        entry
        for entry in entries
        if _metadata(entry).get("name") in (base, f"{base}-{node_name}")
        and namespace in ("", _metadata(entry).get("namespace"))
    ]
    exact = [entry for entry in found if _metadata(entry).get("name") == base]
    if not found:
        raise Failure(f"cannot find pod {name!r}", NOT_FOUND)
    return exact or found


def complete_pods(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names for the shell; nothing where the agent does not answer."""
    target = context.find_object(Target)
    try:
        answer = target.agent("/v1/pods") if target is not None else {}
    except Failure:
        return []
    names = [str(_metadata(entry).get("name", "")) for entry in answer.get("pods", [])]
    return [name for name in names if name.startswith(incomplete)]


def _metadata(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry["pod"].get("metadata") or {}
    return found


def _node_name(target: Target, answer: dict[str, Any]) -> str:
    for entry in answer.get("pods", []):
        if name := (entry["pod"].get("spec") or {}).get("nodeName"):
            return str(name)
    return str(target.agent_status().get("nodeName", ""))
