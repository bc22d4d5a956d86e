"""`longshore`: what a person types. The group, its global options, and nothing else.

Each command is a module that is imported when it is called, so that every one starts fast.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from pathlib import Path

import click

from cli.target import DEFAULT_PROXY_SOCKET, DEFAULT_ROOT_DIR, Target

_COMMANDS = {
    "pods": "cli.pods:pods",
    "services": "cli.services:services",
    "logs": "cli.logs:logs",
    "debug": "cli.debug:debug",
    "timeline": "cli.timeline:timeline",
    "status": "cli.status:status",
    "check": "cli.check:check",
    "apply": "cli.apply:apply",
    "delete": "cli.delete:delete",
    "backup": "cli.backup:backup",
    "restore": "cli.restore:restore",
    "shutdown": "cli.shutdown:shutdown",
    "proxy": "cli.proxy:proxy",
    "up": "cli.up:up",
    "join": "cli.join:join",
    "down": "cli.down:down",
    "control-plane": "cli.control_plane:control_plane",
    "completion": "cli.completion:completion",
}


class LazyGroup(click.Group):
    """Imports a command when somebody asks for it."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All names, in the order of the day."""
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 # _COMMANDS names commands only
        return command


# What may be read is for the command to say, in its own words.
_PLACE = click.Path(path_type=Path, readable=False)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--root-dir",
    type=_PLACE,
    default=DEFAULT_ROOT_DIR,
    envvar="LONGSHORE_ROOT_DIR",
    show_default=True,
    show_envvar=True,
    help="Root directory of the agent; its socket is in it.",
)
@click.option(
    "--agent-socket",
    type=_PLACE,
    envvar="LONGSHORE_AGENT_SOCKET",
    show_envvar=True,
    help="Socket of the agent.  [default: ROOT_DIR/agent.sock]",
)
@click.option(
    "--proxy-socket",
    type=_PLACE,
    default=DEFAULT_PROXY_SOCKET,
    envvar="LONGSHORE_PROXY_SOCKET",
    show_default=True,
    show_envvar=True,
    help="Socket of the proxy.",
)
@click.option(
    "--manifest-dir",
    type=_PLACE,
    envvar="LONGSHORE_MANIFEST_DIR",
    show_envvar=True,
    help="Directory of pod manifests.  [default: the agent's staticPodPath]",
)
@click.option(
    "--service-dir",
    type=_PLACE,
    envvar="LONGSHORE_SERVICE_DIR",
    show_envvar=True,
    help="Directory of service manifests.  [default: the proxy's --manifest-dir]",
)
@click.version_option(package_name="longshore", prog_name="longshore")
@click.pass_context
def cli(
    context: click.Context,
    root_dir: Path,
    agent_socket: Path | None,
    proxy_socket: Path,
    manifest_dir: Path | None,
    service_dir: Path | None,
) -> None:
    """Look at and feed the Longshore node on this machine.

    Exit status: 0 done, 1 failed or unhealthy, 2 wrong usage, 3 not found, 4 a daemon cannot be reached, 65 a bad
    manifest.
    """
    context.obj = Target(
        root_dir=root_dir,
        agent_socket=agent_socket or root_dir / "agent.sock",
        proxy_socket=proxy_socket,
        manifest_dir=manifest_dir,
        service_dir=service_dir,
    )  # fmt: skip


def main() -> None:
    """Entry point of `longshore`."""
    try:
        try:
            cli(prog_name="longshore")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        # A full disk behind >; click itself takes care of a closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at its end
        print(f"longshore: cannot write the output: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
