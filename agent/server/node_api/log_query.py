"""What `/logs/?query=` asks for: services of the journal or one file, checked, and the command that reads the journal.
Pure.

Before: `server` has the query.  Next: `system_logs` runs the command or reads the file.  Nothing of a request becomes
an option: each value is one argument behind `--name=`, and names are of few characters (CVE-2024-9042).  Source:
KEP-2258, kubelet's nodeLogQuery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.server.node_api.targets import VerbError
from kube_objects.encode import parse_rfc3339

MAX_LINES = 100_000
MAX_QUERIES = 4
_MAX_NAME = 256
_MAX_PATTERN = 1024
_SERVICE = re.compile(r"[a-zA-Z0-9@_:][a-zA-Z0-9@_:.\\-]*\Z")
_INTEGER = re.compile(r"[-+]?\d{1,9}\Z", re.ASCII)
OPTIONS = ("query", "boot", "pattern", "sinceTime", "untilTime", "tailLines")


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Services, or one `file` below the directory of logs. `boot` counts back from 0, this one; times are UTC."""

    services: tuple[str, ...] = ()
    file: str = ""
    boot: int | None = None
    pattern: str = ""
    since: datetime | None = None
    until: datetime | None = None
    tail: int | None = None


def parse_log_query(pairs: Iterable[tuple[str, str]]) -> LogQuery:
    """The names and values of a request's query. Raises VerbError: 400 for what is no value, 406 for a wrong one."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in OPTIONS:
            raise VerbError(400, f"{name[:64]}: unknown option; there are {', '.join(OPTIONS)}")
        if value:
            values.setdefault(name, []).append(value)
    for name in OPTIONS[1:]:
        if len(values.get(name, ())) > 1:
            raise VerbError(400, f"{name}: at most one is allowed")
    services, files = _targets(values.get("query", []))
    single = {name: found[0] for name, found in values.items()}
    boot, tail = _integer(single, "boot"), _integer(single, "tailLines")
    if boot is not None and boot > 0:
        raise VerbError(406, "boot: must be less than or equal to 0")
    if tail is not None and not 0 <= tail <= MAX_LINES:
        raise VerbError(406, f"tailLines: must be from 0 to {MAX_LINES}")
    pattern = single.get("pattern", "")
    if len(pattern) > _MAX_PATTERN or not pattern.isprintable():
        raise VerbError(406, f"pattern: must be at most {_MAX_PATTERN} printable characters")
    since, until = _time(single, "sinceTime"), _time(single, "untilTime")
    if since is not None and until is not None and since > until:
        raise VerbError(406, "untilTime: must be after sinceTime")
    found = LogQuery(services, files[0] if files else "", boot, pattern, since, until, tail)
    if files and found != LogQuery(file=files[0]):
        raise VerbError(406, "query: options are not for a file, it is given as it is")
    return found


def journal_command(query: LogQuery) -> tuple[str, ...]:
    """journalctl for the services."""
    argv = ["journalctl", "--utc", "--no-pager", "--output=short-precise"]
    if query.since is not None:
        argv.append(f"--since={_journal_time(query.since)}")
    if query.until is not None:
        argv.append(f"--until={_journal_time(query.until)}")
    if query.tail is not None:
        argv.append(f"--lines={query.tail}")
    argv += [f"--unit={service}" for service in query.services]
    if query.pattern:
        argv += [f"--grep={query.pattern}", "--case-sensitive=false"]
    if query.boot is not None:
        argv.append(f"--boot={query.boot}")
    return tuple(argv)


def files_of_service(service: str) -> tuple[str, ...]:
    """Where a service that does not write to the journal has its log, below the directory of logs."""
    return (service, f"{service}.log", f"{service}/{service}.log")


def _targets(wanted: list[str]) -> tuple[tuple[str, ...], list[str]]:
    if not wanted:
        raise VerbError(406, "query: must name a service or a file")
    if len(wanted) > MAX_QUERIES:
        raise VerbError(406, f"query: at most {MAX_QUERIES} are allowed")
    files = [one for one in wanted if "/" in one]
    services = tuple(one for one in wanted if "/" not in one)
    if files and services:
        raise VerbError(406, "query: services and files cannot be asked for together")
    if len(files) > 1:
        raise VerbError(406, "query: only one file can be asked for")
    for one in services:
        if len(one) > _MAX_NAME or not _SERVICE.match(one):
            raise VerbError(406, f"query: {one[:64]!r} is not the name of a service")
    for one in files:
        parts = one.removeprefix("/").split("/")
        if (
            len(one) > _MAX_NAME
            or not one.isprintable()
            or "\\" in one
            or any(part in ("", ".", "..") for part in parts)
        ):
            raise VerbError(406, f"query: {one[:64]!r} is not the name of a file below the directory of logs")
    return services, [one.removeprefix("/") for one in files]


def _integer(values: dict[str, str], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not _INTEGER.match(text):
        raise VerbError(400, f"{name}: {text[:40]!r} is not an integer")
    return int(text)


def _time(values: dict[str, str], name: str) -> datetime | None:
    text = values.get(name)
    if text is None:
        return None
    try:
        return parse_rfc3339(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise VerbError(400, f"{name}: {text[:40]!r} is not a time such as 2026-01-31T12:00:00Z") from None


def _journal_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
