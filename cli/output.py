"""What commands print: tables for people, JSON, YAML and names for programs.

Before: rows and values that the commands made. Effects: writes to stdout; imports rich and yaml only where needed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.failure import Failure
from kube_objects.manifest import one_line

F = TypeVar("F", bound=Callable[..., Any])

_GAP = 3
_LAST_COLUMN_LEAST = 40
_COLOURS = {
    "Running": "green", "Completed": "green", "Succeeded": "green", "ok": "green", "ready": "green",
    "Pending": "yellow", "ContainerCreating": "yellow", "Terminating": "yellow", "NotReady": "yellow",
    "FAIL": "red", "Error": "red", "Failed": "red", "CrashLoopBackOff": "red", "not ready": "red",
}  # fmt: skip


def format_option(*choices: str) -> Callable[[F], F]:
    """The -o option with these choices; the first is the default."""
    return click.option(
        "-o", "--output", type=click.Choice(choices), default=choices[0], show_default=True, help="Output format."
    )


def print_value(value: object, output: str) -> None:
    """Print JSON or YAML."""
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    import yaml

    click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as kubectl prints them; colours and folding only on a terminal."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_on_terminal(header, cells)
        return
    widths = [max(map(len, column)) + _GAP for column in zip(header, *cells, strict=True)]
    for row in (header, *cells):
        click.echo("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_on_terminal(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
    # Where the terminal is too narrow for that, it wraps whole lines: a name that is cut off helps nobody.
    least = sum(width + _GAP for width in widths[:-1]) + min(widths[-1], _LAST_COLUMN_LEAST)
    console = Console(highlight=False, soft_wrap=False)
    console.width = max(console.width, least)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for number, title in enumerate(header):
        last = number == len(header) - 1
        table.add_column(title, no_wrap=not last, overflow="fold" if last else "ignore")
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    console.print(table)


def print_errors(errors: Iterable[dict[str, Any]]) -> None:
    """Files that cannot be used, below a table, on stderr so that a pipe sees only rows."""
    for error in errors:
        where = str(error.get("path", "?"))
        where += f":{error['line']}" if error.get("line") else ""
        field = f"{error['field']}: " if error.get("field") else ""
        kept = " (the last good version stays in use)" if error.get("lastGood") else ""
        print_problem(f"cannot read {where}: {field}{error.get('message', '')}{kept}")


def check_replaceable(path: Path, instead: str = "name another file") -> None:
    """Raises Failure for what a new file must not take the place of: a device, a directory, a link."""
    if path.exists() and not path.is_file():
        raise Failure(f"cannot write {path}: it is there and no regular file; {instead}")
    if path.is_symlink():
        raise Failure(f"cannot write {path}: it is a symbolic link to {path.readlink()}; name the file behind it")


def print_problem(text: str) -> None:
    """One line on stderr, whatever the text quotes."""
    click.secho(one_line(text), fg="red", err=True, color=False if os.environ.get("NO_COLOR") else None)
