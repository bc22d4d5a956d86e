"""The manual pages, made from what the programs themselves know, so that no page can say what the code does not.

Before: the click commands, and the tables of fields and flags of both daemons. Next: `make deb` installs the pages;
`python -m cli.man_pages DIRECTORY` writes them for anybody else. Effects: writes the files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import click

from agent import config_fields as agent_fields
from agent.config_field import ConfigField as AgentField
from agent.config_field import Use as AgentUse
from cli.main import cli
from cli.man_text import (
    AGENT,
    AGENT_FILE,
    COMMON_ENTRIES,
    EXIT_STATUS,
    FILES,
    PROXY,
    PROXY_FILE,
    SIGNALS,
    Prose,
)  # fmt: skip
from cli.roff import Block, Entry, Page, Paragraph, Section, Subhead, Verbatim, render_page
from proxy import config_fields as proxy_fields

One = TypeVar("One")
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Row:
    """One field or flag as a page shows it. `use` is the heading it stands under."""

    name: str
    text: str
    use: str


def all_pages() -> tuple[Page, ...]:
    """Every page of the package."""
    return (
        _command_page(),
        _daemon_page(AGENT, _agent_flags()),
        _daemon_page(PROXY, _proxy_flags()),
        _file_page(AGENT_FILE, _agent_file()),
        _file_page(PROXY_FILE, _proxy_file()),
    )


def write_pages(directory: Path) -> None:
    """Write every page into `directory`, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for page in all_pages():
        (directory / page.file_name).write_text(render_page(page, version("longshore")), encoding="utf-8")


def _command_page() -> Page:
    context = click.Context(cli, info_name="longshore", terminal_width=10_000)
    names = cli.list_commands(context)
    sections: tuple[Section, ...] = (
        ("SYNOPSIS", (Verbatim("longshore [OPTIONS] COMMAND [ARGUMENTS]"),)),
        ("DESCRIPTION", tuple(one for one in _paragraphs(cli.help or "") if not one.text.startswith("Exit status"))),
        ("OPTIONS", tuple(_options(cli, context))),
        ("COMMANDS", tuple(block for name in names for block in _command(cli, name, context))),
        ("ENVIRONMENT", tuple(_variables(cli))),
        *_common("longshore", 1),
    )
    return Page("longshore", 1, "look at and feed the Longshore node on this machine", sections)


def _command(group: click.Group, name: str, above: click.Context) -> Iterator[Block]:
    command = group.get_command(above, name)
    assert command is not None  # noqa: S101 # the group has just named it
    context = click.Context(command, info_name=name, parent=above, terminal_width=10_000)
    words = " ".join(command.collect_usage_pieces(context))
    path = context.command_path.removeprefix("longshore ")
    yield Subhead(f"{path} {words}")
    yield from _paragraphs(command.help or "")
    yield from _options(command, context)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            yield from _command(command, inner, context)


def _options(command: click.Command, context: click.Context) -> Iterator[Entry]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        # An argument is in the usage already, and every command has --help.
        if record is not None and record[1] and parameter.name != "help":
            yield Entry(record[0], record[1])


def _variables(command: click.Command) -> Iterator[Entry]:
    for parameter in command.params:
        if isinstance(parameter.envvar, str):
            yield Entry(parameter.envvar, f"stands in for {parameter.opts[0]}")


def _paragraphs(text: str) -> Iterator[Paragraph]:
    for part in text.replace("\b", "").split("\n\n"):
        if part.strip():
            yield Paragraph(part.strip())


def _daemon_page(prose: Prose, rows: Sequence[Row]) -> Page:
    sections: tuple[Section, ...] = (
        ("SYNOPSIS", (Verbatim(prose.synopsis),)),
        ("DESCRIPTION", tuple(_paragraphs(prose.description))),
        ("OPTIONS", (*COMMON_ENTRIES, *_by_use(rows))),
        ("SIGNALS", tuple(SIGNALS)),
        *_common(prose.name, 8),
    )
    return Page(prose.name, 8, prose.about, sections)


def _file_page(prose: Prose, rows: Sequence[Row]) -> Page:
    sections: tuple[Section, ...] = (
        ("SYNOPSIS", (Verbatim(prose.synopsis),)),
        ("DESCRIPTION", tuple(_paragraphs(prose.description))),
        ("FIELDS", tuple(_by_use(rows))),
        ("EXAMPLE", (Verbatim(prose.example),)),
        *_common(prose.name, 5),
    )
    return Page(prose.name, 5, prose.about, sections)


def _by_use(rows: Sequence[Row]) -> Iterator[Block]:
    for use in dict.fromkeys(row.use for row in rows):
        yield Subhead(use[0].upper() + use[1:])
        for row in rows:
            if row.use == use:
                yield Entry(row.name, row.text)


def _common(name: str, number: int) -> tuple[Section, ...]:
    others = ("longshore(1)", "longshore-agent(8)", "longshore-proxy(8)", "longshore-agent.yaml(5)",
              "longshore-proxy.yaml(5)", "containerd(8)", "iptables(8)")  # fmt: skip
    also = Paragraph(", ".join(other for other in others if other != f"{name}({number})"))
    status: tuple[Section, ...] = ()
    if entries := EXIT_STATUS.get(number):
        status = (("EXIT STATUS", tuple(entries)),)
    return (*status, ("FILES", tuple(FILES)), ("SEE ALSO", (also,)))


def _agent_flags() -> list[Row]:
    return [
        Row(f"--{name} {field.kind.upper()}", _said(_agent_parts(field, name)), field.use.value)
        for name, field in _sorted_by_use(agent_fields.BY_FLAG.items(), list(AgentUse), lambda one: one[1].use)
    ]


def _agent_parts(field: AgentField, name: str) -> Iterator[str]:
    yield field.note
    if field.name != name:
        yield f"field {field.name} of the file"
    yield f"default {_default(field.default)}" if _default(field.default) else ""


def _agent_file() -> list[Row]:
    fields = _sorted_by_use(agent_fields.FIELDS.values(), list(AgentUse), lambda one: one.use)
    return [
        Row(
            f"{field.name} ({field.kind})",
            _said(
                (
                    field.note,
                    f"one of {', '.join(field.choices)}" if field.choices else "",
                    f"default {_default(field.default)}" if _default(field.default) else "no default",
                    f"flag --{field.flag}" if field.flag else "",
                )
            ),
            field.use.value,
        )
        for field in fields
    ]


def _proxy_flags() -> list[Row]:
    fields = _sorted_by_use(proxy_fields.BY_FLAG.values(), list(proxy_fields.Use), lambda one: one.use)
    return [
        Row(
            f"--{field.flag} {field.kind.name}",
            _said((field.why, f"field {field.path} of the file" if field.path else "")),
            field.use.value,
        )
        for field in fields
    ]


def _proxy_file() -> list[Row]:
    fields = _sorted_by_use(proxy_fields.BY_PATH.values(), list(proxy_fields.Use), lambda one: one.use)
    return [
        Row(
            field.path,
            _said((field.kind.value, field.why, f"flag --{field.flag}" if field.flag else "")),
            field.use.value,
        )
        for field in fields
    ]


def _sorted_by_use(all_of_them: Iterable[One], uses: Sequence[Kind], use_of: Callable[[One], Kind]) -> list[One]:
    return sorted(all_of_them, key=lambda one: uses.index(use_of(one)))


def _said(parts: Iterable[str]) -> str:
    return "; ".join(part for part in parts if part)


def _default(value: object) -> str:
    if value in (None, "", (), {}):
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
