"""What every scene of a demo prints with: titles, lines, times, bars of requests. I/O.

Before: a terminal or a log. Next: `lab.demo_story` and `lab.demo_cluster` tell their stories with it.
"""

from __future__ import annotations

import http.client
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from lab.fetch import fetch
from lab.machine import LabError

_BAR_WIDTH = 40


class Scenes:
    """How a story is told."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def title(self, text: str) -> None:
        """The next scene."""
        self.console.print(f"\n[bold]{text}[/]", highlight=False)

    def line(self, text: str) -> None:
        """A fact."""
        self.console.print(f"  {text}", highlight=False)

    def quote(self, text: str) -> None:
        """What a program has said."""
        for line in text.splitlines():
            self.console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    def timed(self, what: str, action: Callable[[], Any]) -> None:
        """Do it, and say how long it took."""
        started_s = time.monotonic()
        with self.console.status(f"{what} ..."):
            action()
        self.line(f"{what}: {time.monotonic() - started_s:.2f} s")

    def ask(self, url: str, count: int) -> Counter[str]:
        """Who answered how many of `count` requests. Raises LabError for one that nobody answered."""
        shares: Counter[str] = Counter()
        columns = (TextColumn("  requests"), BarColumn(_BAR_WIDTH), MofNCompleteColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            for _ in progress.track(range(count)):
                try:
                    shares[fetch(url, 30.0)] += 1
                except (OSError, http.client.HTTPException) as error:
                    raise LabError(f"cannot get {url}: {error}") from error
        return shares

    def bars(self, shares: Mapping[str, int]) -> None:
        """A bar for each who answered."""
        total = sum(shares.values())
        table = Table(box=None, show_header=False, padding=(0, 2))
        for name, answers in sorted(shares.items()):
            bar = "█" * round(_BAR_WIDTH * answers / max(shares.values()))
            table.add_row(name, f"[cyan]{bar}[/]", f"{answers}", f"{100 * answers / total:.0f} %")
        self.console.print(table)
