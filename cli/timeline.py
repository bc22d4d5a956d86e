"""`longshore timeline`: where the time of a pod's start went, as bars.

Before: the agent's local API has the spans of `agent.pods.timeline`. Effects: prints.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cli.failure import NOT_FOUND, Failure
from cli.output import format_option, print_value
from cli.pods import complete_pods, find_pods
from cli.target import Target, pass_target

_EIGHTHS = " ▏▎▍▌▋▊▉"
_COLOURS = {
    "volumes": "blue", "sandbox": "magenta", "pull": "yellow", "create": "cyan", "start": "green", "ready": "green",
}  # fmt: skip
_LEAST_BAR, _MOST_BAR = 20, 100


@dataclass(frozen=True)
class _Row:
    """One bar, in seconds since the block's origin; `end_s` is None for what has not succeeded yet."""

    title: str
    what: str
    begin_s: float
    end_s: float | None
    tries: int


@dataclass(frozen=True)
class _Block:
    """Bars with one origin (Unix seconds): the pod's start, or a container's later one."""

    title: str
    origin_s: float
    rows: tuple[_Row, ...]


@click.command()
@click.argument("pod", shell_complete=lambda *given: complete_pods(*given))
@click.option("-n", "--namespace", help="Namespace of the pod.")
@format_option("bars", "json", "yaml")
@pass_target
def timeline(target: Target, pod: str, namespace: str | None, output: str) -> None:
    """Draw how long each part of the newest start of POD took."""
    entries = [
        one
        for one in target.agent("/v1/pods").get("pods", [])
        if namespace in (None, (one["pod"].get("metadata") or {}).get("namespace"))
    ]
    found = find_pods(entries, pod, str(target.agent_status().get("nodeName", "")))
    if len(found) > 1:
        raise click.UsageError(f"several pods are called {pod!r}; say which with -n NAMESPACE")
    spans: list[dict[str, Any]] = found[0].get("timeline") or []
    metadata = found[0]["pod"]["metadata"]
    if output != "bars":
        value = {"namespace": metadata["namespace"], "name": metadata["name"], "timeline": spans}
        print_value(value, output)
        return
    if not spans:
        raise Failure(f"cannot draw the timeline of {metadata['name']}: the agent has not seen it start", NOT_FOUND)
    for block in _blocks(f"{metadata['namespace']}/{metadata['name']}", spans):
        _draw(block)


def _blocks(name: str, spans: Sequence[dict[str, Any]]) -> Iterator[_Block]:
    """The pod's block, then one for each container whose newest start was not the pod's own."""
    attempts = {span["container"]: span["attempt"] for span in spans if span["what"] in ("create", "start")}
    own = [span for span in spans if not attempts.get(span["container"])]
    if own:
        yield _block(name, own)
    for container, attempt in attempts.items():
        if attempt:
            title = f"{name}, container {container}, restart {attempt}"
            yield _block(title, [span for span in spans if span["container"] == container])


def _block(title: str, spans: Sequence[dict[str, Any]]) -> _Block:
    origin_s = min(float(span["begin"]) for span in spans)
    starts = {span["container"]: span["end"] for span in spans if span["what"] == "start"}
    rows = []
    for span in spans:
        begin_s = float(span["begin"])
        if span["what"] == "ready":  # a moment: the bar is the wait for it
            begin_s = min(begin_s, float(starts.get(span["container"]) or begin_s))
        end_s = None if span["end"] is None else float(span["end"]) - origin_s
        words = f"{span['container']} {span['what']}".strip()
        rows.append(_Row(words, span["what"], begin_s - origin_s, end_s, int(span["tries"])))
    return _Block(title, origin_s, tuple(rows))


def _draw(block: _Block) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    total_s = max((row.end_s or row.begin_s for row in block.rows), default=0.0)
    widths = (max(len(row.title) for row in block.rows), 9, 9)
    bar_width = min(_MOST_BAR, max(_LEAST_BAR, console.width - sum(widths) - 9))
    console.width = max(console.width, sum(widths) + 9 + bar_width)  # rather a wrapped line than a cut name
    begun = datetime.datetime.fromtimestamp(block.origin_s, datetime.UTC).astimezone()
    console.print(Text(f"{block.title}: {total_s:.3f} s from {begun:%Y-%m-%d %H:%M:%S}", style="bold"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify, no_wrap=True, overflow="ignore")
    for row in block.rows:
        bar = Text(_bar(row, total_s, bar_width), style=_COLOURS.get(row.what, ""))
        table.add_row(Text(row.title), f"{row.begin_s:.3f} s", _took(row), bar)
    console.print(table)


def _took(row: _Row) -> str:
    if row.end_s is None:
        return "not yet" if row.tries == 1 else f"{row.tries} tries"
    return "" if row.end_s == row.begin_s else f"{row.end_s - row.begin_s:.3f} s"


def _bar(row: _Row, total_s: float, width: int) -> str:
    """Blanks up to the begin, blocks up to the end; what has not succeeded yet has no end, a moment is one mark."""
    scale = (width - 1) / total_s if total_s > 0 else 0.0
    start = int(row.begin_s * scale)
    if row.end_s is None:
        return " " * start + "·" * (width - start)
    eighths = round((row.end_s - row.begin_s) * scale * 8)
    blocks, rest = divmod(eighths, 8)
    return " " * start + ("█" * blocks + (_EIGHTHS[rest] if rest else "") or "▏")
