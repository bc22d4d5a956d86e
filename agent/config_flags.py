"""The command line of the agent: the kubelet's flags, read by click, by the table of config_fields.py.

Before: `main`.  Next: config.py lays the flags over the file.  Effects: --version and --help print.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata

import click

from agent.config_field import ConfigField, Use
from agent.config_fields import BY_FLAG, FIELDS
from agent.config_values import ConfigError, Setting, default_of, nearest_flag, parse_flag


def parse_flags(argv: Sequence[str]) -> dict[str, Setting]:
    """What the flags say, by the name of the field (or of the flag where it is no field).

    Raises ConfigError; SystemExit(0) after --version or --help has been printed.
    """
    words: dict[str, tuple[str, ...]] = {}

    def remember(**given: tuple[str, ...]) -> None:
        words.update({name: value for name, value in given.items() if value})

    command = click.Command("longshore-agent", params=_options(), callback=remember, help=_HELP)
    command.context_settings = {
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda token: token.replace("_", "-"),
    }
    try:
        code = command.main(args=list(argv), prog_name="longshore-agent", standalone_mode=False)
    except click.NoSuchOption as error:
        name = error.option_name.lstrip("-")
        raise ConfigError(f"flag {error.option_name}", "unknown flag" + nearest_flag(name, BY_FLAG)) from None
    except click.UsageError as error:
        raise ConfigError("command line", error.format_message()) from None
    if code is not None:
        raise SystemExit(0)
    settings: dict[str, Setting] = {}
    for name, given in words.items():
        field = BY_FLAG[name.replace("_", "-")]
        setting = parse_flag(field, tuple(word.removeprefix("=") for word in given))
        # A flag beats the file even where it asks for the default.
        settings[field.name] = setting or Setting(default_of(field), f"flag --{field.flag}")
    return settings


def _option(name: str, field: ConfigField) -> click.Parameter:
    names = ["-v", "--v"] if name == "v" else [f"--{name}"]
    hidden = field.use is not Use.USED
    about = _help(field)
    if field.kind == "bool":  # as upstream's: the word alone means true, another value needs the equals sign
        return click.Option(
            names, multiple=True, is_flag=False, flag_value="true", metavar="BOOL", help=about, hidden=hidden
        )
    return click.Option(names, multiple=True, metavar=field.kind.upper(), help=about, hidden=hidden)


def _options() -> list[click.Parameter]:
    options = [_option(name, field) for name, field in sorted(BY_FLAG.items())]
    version = metadata.version("longshore")
    options.append(
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_print(version))
    )
    return options


def _print(version: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def show(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            click.echo(f"longshore-agent {version}")
            context.exit()

    return show


def _help(field: ConfigField) -> str:
    parts = [field.note] if field.note else []
    if field.name in FIELDS:
        parts.append(f"field {field.name} of the file")
    if field.default not in (None, "", (), {}):
        parts.append(f"default {str(field.default).lower() if isinstance(field.default, bool) else field.default}")
    return "; ".join(parts)


_HELP = """The node agent of Longshore: runs the static pods of a directory on this machine.

Flags have the kubelet's names and meaning and beat the file that --config names.  Flags of the kubelet that have no
effect here, or are refused, are not shown; docs/agent-configuration.md lists them all."""
