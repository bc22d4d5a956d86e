"""The manual pages say all that the programs know, and groff reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest

from agent.config_fields import BY_FLAG as AGENT_FLAGS
from agent.config_fields import FIELDS as AGENT_FIELDS
from agent.config_values import parse_config_file
from cli.main import cli
from cli.man_pages import all_pages, write_pages
from cli.man_text import AGENT_FILE, PROXY_FILE
from cli.roff import Entry, Page, Paragraph, Subhead, Verbatim, render_page
from proxy.config import load_config as load_proxy_config
from proxy.config_fields import BY_FLAG as PROXY_FLAGS
from proxy.config_fields import BY_PATH as PROXY_FIELDS

PAGES = {page.name: page for page in all_pages()}


def terms(page: Page) -> list[str]:
    return [block.term for _, blocks in page.sections for block in blocks if isinstance(block, Entry)]


def test_every_flag_and_field_has_its_entry() -> None:
    wanted = {
        "longshore-agent": [f"--{name}" for name in AGENT_FLAGS],
        "longshore-proxy": [f"--{name}" for name in PROXY_FLAGS],
        "longshore-agent.yaml": list(AGENT_FIELDS),
        "longshore-proxy.yaml": list(PROXY_FIELDS),
    }
    for name, words in wanted.items():
        entries = [term.split()[0] for term in terms(PAGES[name])]
        assert [word for word in words if entries.count(word) != 1] == [], name


def test_every_command_and_option_is_named() -> None:
    page = PAGES["longshore"]
    heads = [block.text.split()[0] for _, blocks in page.sections for block in blocks if isinstance(block, Subhead)]
    context = click.Context(cli)
    assert list(dict.fromkeys(heads)) == cli.list_commands(context)
    said = " ".join(terms(page))
    for name in heads:
        command = cli.get_command(context, name)
        assert command is not None
        options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        assert [option.opts[-1] for option in options if option.opts[-1] not in said] == [], name


def test_examples_are_accepted(tmp_path: Path) -> None:
    assert parse_config_file(AGENT_FILE.example.encode(), "agent.yaml")
    path = tmp_path / "proxy.yaml"
    path.write_text(PROXY_FILE.example)
    assert load_proxy_config([f"--config={path}"]).node_port_addresses == ("primary",)


def test_groff_has_nothing_to_say(tmp_path: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    write_pages(tmp_path)
    written = sorted(tmp_path.iterdir())
    assert len(written) == len(PAGES)
    for path in written:
        argv = ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_groff_would_take_for_its_own() -> None:
    blocks = (Paragraph(".hidden\n'quoted' a-b \\n"), Entry("--flag", ""), Verbatim("    kept\n.dot"))
    text = render_page(Page("x", 1, "tries", (("DESCRIPTION", blocks),)), "1.0")
    assert text.splitlines()[5:] == [
        ".PP", "\\&.hidden", "\\(aqquoted\\(aq a\\-b \\en",
        ".TP", "\\fB\\-\\-flag\\fR", "\\-",
        ".PP", ".RS 4", ".nf", "    kept", "\\&.dot", ".fi", ".RE",
    ]  # fmt: skip
