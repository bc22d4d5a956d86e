"""`longshore delete`: take manifests away from the daemons, by the name of the object.

Before: names or files. Next: the watch of the agent or of the proxy sees that the file is gone. Effects: removes files.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from cli.failure import NOT_FOUND, Failure
from cli.manifests import (
    ALIASES,
    MANIFEST,
    POD,
    SERVICE,
    ObjectName,
    StoredManifest,
    directory_of,
    identify,
    node_name,
    read_manifest,
    stored,
)
from cli.target import Target, pass_target
from daemonkit.files import remove_durably
from kube_objects.manifest import one_line


@click.command()
@click.argument("names", nargs=-1, metavar="[KIND/]NAME...")
@click.option("-f", "--filename", "files", type=MANIFEST, multiple=True, help="A file that names it; - is stdin.")
@click.option("-n", "--namespace", help="Namespace of the objects.  [default: any, as long as it is clear]")
@pass_target
def delete(target: Target, names: tuple[str, ...], files: tuple[str, ...], namespace: str | None) -> None:
    """Delete manifests by object (web, pod/web, service/web), by file name (web.yaml), or as -f FILE names them."""
    if not names and not files:
        raise click.UsageError("say what to delete: a NAME or -f FILE")
    known = [*stored(directory_of(target, POD)), *stored(directory_of(target, SERVICE))]
    node = node_name(target) if names else ""
    named = [*known, *_last_good(target, known, node)] if names else []
    found = [_by_name(named, name, namespace, node) for name in names]
    found += [one for file in files for one in _by_file(known, file)]
    for one in dict.fromkeys(found):
        try:
            remove_durably(one.path)
        except OSError as error:
            raise Failure(f"cannot delete {one.path}: {error.strerror}") from None
        click.echo(one_line(f"{one.name or one.path.name} deleted ({one.path})"))


def _last_good(target: Target, known: list[StoredManifest], node: str) -> Iterator[StoredManifest]:
    """Files that cannot be read any more, by the pods that run on from their last good version."""
    unreadable = {str(one.path): one for one in known if one.name is None}
    if not unreadable:
        return
    try:
        entries = target.agent("/v1/pods").get("pods", [])
    except Failure:
        return
    for entry in entries:
        metadata = entry["pod"].get("metadata") or {}
        if entry.get("source") in unreadable:
            plain = str(metadata.get("name", "")).removesuffix(f"-{node}")
            name = ObjectName(POD, str(metadata.get("namespace", "")), plain)
            yield StoredManifest(unreadable[entry["source"]].path, name, b"")


def _by_name(known: list[StoredManifest], text: str, namespace: str | None, node: str) -> StoredManifest:
    found = list(dict.fromkeys(_matches(known, text, namespace, node)))
    if not found:
        where = f" in namespace {namespace}" if namespace else ""
        raise Failure(f"cannot find a manifest of {text!r}{where}", NOT_FOUND)
    if len(found) > 1:
        options = ", ".join(
            f"{one.name} -n {one.name.namespace} ({one.path})" if one.name else str(one.path) for one in found
        )
        raise click.UsageError(f"{text!r} may mean: {options}; say which by kind and namespace, or by its file name")
    return found[0]


def _matches(known: list[StoredManifest], text: str, namespace: str | None, node: str) -> Iterator[StoredManifest]:
    prefix, _, base = text.rpartition("/")
    kind = ALIASES.get(prefix.lower()) if prefix else None
    if prefix and kind is None:
        raise click.UsageError(
            f"{prefix!r} is no kind that can be deleted (known: pod, configmap, secret, service, endpointslice)"
        )
    for one in known:
        if not prefix and one.path.name == base:
            yield one
        elif one.name is not None and kind in (None, one.name.kind) and namespace in (None, one.name.namespace):
            # A static pod carries its node's name; people see it in `longshore pods`.
            pod_name = f"{one.name.name}-{node}" if one.name.kind == POD else None
            if base in (one.name.name, pod_name):
                yield one


def _by_file(known: list[StoredManifest], file: str) -> list[StoredManifest]:
    """Every file of that object: were one of two left, the object would come back from it."""
    wanted = identify(*read_manifest(file))
    found = [one for one in known if one.name == wanted]
    if not found:
        raise Failure(f"cannot find a manifest of {wanted} in namespace {wanted.namespace}", NOT_FOUND)
    return found
