"""`longshore logs`: what a container has written.

Before: the agent's API names the pod; where nobody answers, the names of the log directories do. Next:
`cri_client.log_files` reads, `cri_client.log_text` makes lines of it. Effects: prints.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from cli.failure import NOT_FOUND, UNREACHABLE, Failure
from cli.pods import complete_pods, find_pods
from cli.target import DEFAULT_POD_LOGS_DIR, Target, pass_target
from cri_client.log_files import RotatedLogError, attempts, follow, older_than, open_at_tail, read_new, read_rotated
from cri_client.log_text import LogText
from daemonkit.duration import parse_duration
from kube_objects.encode import parse_rfc3339


@dataclass(frozen=True)
class _PodLogs:
    name: str
    directory: Path
    containers: tuple[str, ...]
    default_container: str | None = None
    between_runs: frozenset[str] = frozenset()
    """Containers that wait for their next run: their newest log is that of the run before."""


@click.command()
@click.argument("pod", shell_complete=lambda *given: complete_pods(*given))
@click.option("-c", "--container", help="Which container; needed only where the pod has several.")
@click.option("-n", "--namespace", help="Namespace of the pod.")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on, through rotation and restarts, until stopped.")
@click.option("--tail", type=click.IntRange(min=0), help="Only the last so many lines.")
@click.option("-p", "--previous", is_flag=True, help="The run of the container before this one.")
@click.option("--timestamps", is_flag=True, help="Begin each line with its time.")
@click.option("--since", help="Only lines newer than so long ago, such as 5s, 2m or 3h.")
@click.option("--since-time", help="Only lines since that time, such as 2026-01-31T12:00:00Z.")
@click.option("--limit-bytes", type=click.IntRange(min=1), help="At most so many bytes.")
@pass_target
def logs(
    target: Target,
    pod: str,
    container: str | None,
    namespace: str | None,
    following: bool,
    tail: int | None,
    previous: bool,
    timestamps: bool,
    since: str | None,
    since_time: str | None,
    limit_bytes: int | None,
) -> None:
    """Print what a container of POD has written."""
    text = LogText(timestamps=timestamps, since_ns=_since_ns(since, since_time), limit_bytes=limit_bytes)
    found = _find(target, pod, namespace)
    directory = found.directory / _choose(found, container)
    runs = attempts(directory)
    if previous and directory.name not in found.between_runs:
        runs = runs[:-1]
    if not runs:
        which = "previous run" if previous else "log"
        raise Failure(f"cannot read the logs of {found.name}: container {directory.name} has no {which} yet", NOT_FOUND)
    attempt = runs[-1]
    try:
        file = open_at_tail(directory, attempt, tail)
    except OSError as error:
        raise Failure(f"cannot read {directory / f'{attempt}.log'}: {error.strerror}") from None
    with file:
        older = older_than(file, directory, attempt)
        going_on = _follow(directory, attempt, file, older) if following and not previous else read_new(file)
        try:
            _print_all(text, read_rotated(older, file, tail))
        except RotatedLogError as error:  # better the rest of the log than nothing
            click.echo(error, err=True)
        try:
            _print_all(text, going_on)
        except RotatedLogError as error:
            raise Failure(str(error)) from None
        sys.stdout.buffer.write(text.close())


def _follow(directory: Path, attempt: int, file: BinaryIO, older: Iterable[Path]) -> Iterator[bytes]:
    from cli.follow_log import as_it_comes

    return as_it_comes(follow(directory, attempt, file, older), directory)


def _print_all(text: LogText, blocks: Iterable[bytes]) -> None:
    """Print what the blocks hold; an empty one means that nothing more is there at the moment."""
    for data in blocks:
        if text.full:
            return
        sys.stdout.buffer.write(text.feed(data))
        if not data:
            sys.stdout.flush()


def _since_ns(since: str | None, since_time: str | None) -> int | None:
    """The oldest time wanted, in Unix nanoseconds."""
    if since is not None and since_time is not None:
        raise click.UsageError("only one of --since and --since-time may be used")
    try:
        if since is not None:
            return time.time_ns() - int(parse_duration(since) * 1e9)
        if since_time is not None:
            return int(parse_rfc3339(since_time).timestamp() * 1e9)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return None


def _choose(pod: _PodLogs, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in pod.containers:
            known = ", ".join(pod.containers)
            raise Failure(f"cannot find container {wanted!r} in pod {pod.name} (it has: {known})", NOT_FOUND)
        return wanted
    if not pod.containers:
        raise Failure(f"cannot read the logs of {pod.name}: no container has started yet", NOT_FOUND)
    chosen = pod.default_container if pod.default_container in pod.containers else pod.containers[0]
    if len(pod.containers) > 1 and pod.default_container is None:
        click.echo(f"Defaulted container {chosen!r} out of: {', '.join(pod.containers)}", err=True)
    return chosen or pod.containers[0]


def _find(target: Target, name: str, namespace: str | None) -> _PodLogs:
    try:
        status, answer = target.agent("/v1/status"), target.agent("/v1/pods")
    except Failure as failure:
        return _find_directory(name, namespace, failure)
    entries = [
        one for one in answer["pods"] if namespace in (None, (one["pod"].get("metadata") or {}).get("namespace"))
    ]
    found = find_pods(entries, name, str(status.get("nodeName", "")))
    if len(found) > 1:
        raise click.UsageError(f"several pods are called {name!r}; say which with -n NAMESPACE")
    return _from_entry(found[0]["pod"], Path(status.get("podLogsDir") or DEFAULT_POD_LOGS_DIR))


def _from_entry(pod: dict[str, Any], logs_dir: Path) -> _PodLogs:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    names = [
        one["name"] for key in ("containers", "initContainers", "ephemeralContainers") for one in spec.get(key) or ()
    ]
    default = (metadata.get("annotations") or {}).get("kubectl.kubernetes.io/default-container")
    directory = logs_dir / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
    waiting = frozenset(_between_runs(pod.get("status") or {}))
    return _PodLogs(metadata["name"], directory, tuple(names), default, waiting)


def _between_runs(status: dict[str, Any]) -> Iterator[str]:
    for key in ("containerStatuses", "initContainerStatuses"):
        for one in status.get(key) or ():
            if "waiting" in (one.get("state") or {}) and "terminated" in (one.get("lastState") or {}):
                yield one["name"]


def _find_directory(name: str, namespace: str | None, why: Failure) -> _PodLogs:
    """The newest log directory of that name, for the day when the agent is down."""
    prefix, _, base = name.removeprefix("pod/").rpartition("/")
    wanted = (namespace or prefix or None, base)
    found = []
    for directory in Path(DEFAULT_POD_LOGS_DIR).glob("*_*_*"):
        parts = directory.name.split("_")
        if len(parts) == 3 and parts[1] == wanted[1] and wanted[0] in (None, parts[0]):
            found.append((directory.stat().st_mtime, directory))
    if not found:
        raise Failure(f"{why.format_message()} (and no log of {name!r} is in {DEFAULT_POD_LOGS_DIR})", UNREACHABLE)
    directory = max(found)[1]
    click.echo(f"The agent does not answer; reading {directory}", err=True)
    return _PodLogs(base, directory, tuple(sorted(one.name for one in directory.iterdir() if one.is_dir())))
