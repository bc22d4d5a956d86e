"""How a command fails: one line on stderr and an exit status that scripts can rely on.

Raised by every command, shown by click. Exit statuses: 1 failed or unhealthy, 2 wrong usage (click's own), 3 not found,
4 a daemon cannot be reached, 65 a bad manifest (EX_DATAERR of sysexits.h).
"""

from __future__ import annotations

from typing import IO, Any

import click

FAILED = 1
NOT_FOUND = 3
UNREACHABLE = 4
BAD_MANIFEST = 65


class Failure(click.ClickException):
    """Ends the command with `message` on stderr and the exit status `code`."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self._code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override] # click declares a class variable and only reads it
        """The exit status; click reads it."""
        return self._code

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message; click calls it."""
        click.echo(f"longshore: {self.format_message()}", err=True, file=file)
