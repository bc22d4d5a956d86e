"""A manual page as a value, and its text for man(1). Pure.

Before: `cli.man_pages` describes the commands and files. Next: it writes the text. Source: groff_man(7), man-pages(7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Entry:
    """A term in bold and what it means."""

    term: str
    text: str


@dataclass(frozen=True)
class Subhead:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True)
class Verbatim:
    """Lines that stay as they are: an example."""

    text: str


Block = Paragraph | Entry | Subhead | Verbatim
Section = tuple[str, tuple[Block, ...]]


@dataclass(frozen=True)
class Page:
    """One manual page; `sections` are (heading, blocks) in their order, without NAME."""

    name: str
    number: int
    about: str
    sections: tuple[Section, ...]

    @property
    def file_name(self) -> str:
        """As man(1) looks for it: NAME.NUMBER."""
        return f"{self.name}.{self.number}"


def render_page(page: Page, version: str) -> str:
    """The page as groff's man macros. No date is in it, so that the same sources give the same page."""
    lines = [
        f'.TH {_quoted(page.name.upper())} {page.number} "" {_quoted(f"longshore {version}")} "Longshore"',
        ".nh",  # a name cut in two cannot be copied
        ".SH NAME",
        f"{_escaped(page.name)} \\- {_escaped(page.about)}",
    ]
    for heading, blocks in page.sections:
        lines.append(f".SH {_quoted(heading)}")
        lines.extend(_rendered(blocks))
    return "\n".join(lines) + "\n"


def _rendered(blocks: Iterable[Block]) -> Iterable[str]:
    for block in blocks:
        match block:
            case Paragraph(text):
                yield from (".PP", *_lines(text))
            case Subhead(text):
                yield f".SS {_quoted(text)}"
            case Entry(term, text):
                yield from (".TP", f"\\fB{_escaped(term)}\\fR", *_lines(text or "-"))
            case Verbatim(text):
                yield from (".PP", ".RS 4", ".nf", *(_guarded(_escaped(line)) for line in text.splitlines()))
                yield from (".fi", ".RE")


def _lines(text: str) -> list[str]:
    return [_guarded(_escaped(line.strip())) for line in text.splitlines() if line.strip()]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")


def _guarded(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _quoted(text: str) -> str:
    return '"' + _escaped(text).replace('"', "\\(dq") + '"'
