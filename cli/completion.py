"""`longshore completion`: the script that makes a shell complete our commands. Made by click; effects: prints."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: longshore completion bash > /etc/bash_completion.d/longshore
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 # the choice above names only what click has
    command = context.find_root().command
    click.echo(kind(command, {}, "longshore", "_LONGSHORE_COMPLETE").source())
