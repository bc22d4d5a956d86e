"""/logs: the files below the directory of logs, the journal, and what a request must not reach (CVE-2024-9042)."""

from __future__ import annotations

import os
import shutil
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.node_api import server, system_logs
from agent.server.node_api.log_query import MAX_LINES, LogQuery, journal_command, parse_log_query
from agent.server.node_api.targets import VerbError
from tests.loopback.agent.server.node_api_lab import served


@pytest.fixture
def log_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "log"
    (found / "apt").mkdir(parents=True)
    (found / "syslog").write_text("one\ntwo\n")
    (found / "apt" / "history.log").write_bytes(b"x" * 600_000)
    (found / "own.log").write_text("a service's own\n")
    (tmp_path / "secret").write_text("not a log")
    (found / "out").symlink_to(tmp_path / "secret")
    (found / "up").symlink_to("..")
    (tmp_path / "log-private").mkdir()
    (tmp_path / "log-private" / "secret").write_text("not a log")
    (found / "beside").symlink_to("../log-private")
    (found / "in").symlink_to("apt/history.log")
    os.mkfifo(found / "pipe")
    monkeypatch.setattr(server, "_SYSTEM_LOGS", found)
    return found


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/logs/syslog", 200, "one\ntwo\n"),
        ("/logs/in", 200, "x" * 600_000),
        ("/logs/apt/history.log", 200, "x" * 600_000),
        ("/logs/none", 404, "404 page not found"),
        ("/logs/syslog/none", 404, "404 page not found"),
        ("/logs/out", 403, "a link that leads out"),
        ("/logs/up", 403, "a link that leads out"),
        ("/logs/up/secret", 403, "a link that leads out"),
        ("/logs/beside/secret", 403, "a link that leads out"),
        ("/logs/pipe", 403, "neither a file nor a directory"),
        ("/logs/../secret", 400, "dot segments"),
        ("/logs/%2e%2e/secret", 400, "dot segments"),
        ("/logs/..%2fsecret", 400, "encoded slashes"),
        ("/logs/apt%2fhistory.log", 400, "encoded slashes"),
        ("/logs/?query=apt", 403, "enableSystemLogQuery"),
    ],
)
async def test_only_what_lies_below_is_shown(log_dir: Path, tmp_path: Path, path: str, status: int, said: str) -> None:
    async with served(tmp_path) as api:
        answered, text = await api.ask_raw(path)
        assert answered == status
        assert said in text


async def test_a_directory_is_listed_and_never_redirected(log_dir: Path, tmp_path: Path) -> None:
    (log_dir / "a<b>&c").touch()
    (log_dir / "self").symlink_to("self")
    (log_dir / os.fsdecode(b"\xff")).touch()
    async with served(tmp_path) as api:
        for path in ("/logs", "/logs/"):
            status, text = await api.ask_raw(path)
            assert status == 200
            assert '<a href="apt/">apt/</a>\n' in text
            assert '<a href="a%3Cb%3E%26c">a&lt;b&gt;&amp;c</a>\n' in text
        assert (await api.ask_raw("/logs/apt"))[0] == 200
        status, text = await api.ask_raw("/logs/")
        assert status == 200
        assert '<a href="%FF">' in text


async def test_the_directory_of_logs_may_be_a_link_itself(
    log_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(log_dir)
    monkeypatch.setattr(server, "_SYSTEM_LOGS", tmp_path / "link")
    async with served(tmp_path) as api:
        assert (await api.ask_raw("/logs/syslog"))[0] == 200
        assert (await api.ask_raw("/logs/out"))[0] == 403


async def test_readers_are_so_many_and_no_more(log_dir: Path, tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        api.api.system_logs.at_once.limit = 0
        status, text = await api.ask_raw("/logs/syslog")
        assert (status, text) == (429, "0 system logs are open on this node, which is the most\n")


async def test_where_the_handler_is_off_there_are_no_logs(log_dir: Path, tmp_path: Path) -> None:
    async with served(tmp_path, enableSystemLogHandler=False) as api:
        assert await api.ask_raw("/logs/syslog") == (405, "logs endpoint is disabled.\n")


async def test_the_journal_is_asked_and_a_service_may_have_a_file_of_its_own(
    log_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is another here, which shows what it was called with."""
    program = tmp_path / "bin" / "journalctl"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncase "$*" in *--unit=own*) echo "-- No entries --"; exit 0;; esac\n'
        'printf "%s\\n" "$@" "${OF_THE_AGENT-nothing more}"\n'
    )
    monkeypatch.setenv("OF_THE_AGENT", "a secret")
    program.chmod(0o755)
    monkeypatch.setitem(system_logs._QUIET, "PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    async with served(tmp_path, enableSystemLogQuery=True) as api:
        status, text = await api.ask_raw("/logs/?query=ssh&query=cron&pattern=-x%20--file&boot=-1&tailLines=7")
        assert status == 200
        assert text.splitlines() == [
            "--utc", "--no-pager", "--output=short-precise", "--lines=7", "--unit=ssh", "--unit=cron",
            "--grep=-x --file", "--case-sensitive=false", "--boot=-1", "nothing more",
        ]  # fmt: skip
        assert await api.ask_raw("/logs/?query=own") == (200, "a service's own\n")
        assert await api.ask_raw("/logs/?query=own&tailLines=1") == (200, "-- No entries --\n")
        assert await api.ask_raw("/logs/?query=/apt/history.log") == (200, "x" * 600_000)
        assert (await api.ask_raw("/logs/?query=/up/secret"))[0] == 403
        assert (await api.ask_raw("/logs/syslog?tailLines=3"))[0] == 406
        assert (await api.ask_raw("/logs/?tailLines=3"))[0] == 406
        program.write_text("#!/bin/sh\necho Bad pattern >&2; exit 1\n")
        assert await api.ask_raw("/logs/?query=ssh&pattern=(") == (200, "Bad pattern\n")
        program.write_text("#!/bin/sh\nwhile :; do echo line; sleep 0.05; done\n")
        monkeypatch.setattr(system_logs, "JOURNAL_S", 0.3)
        status, text = await api.ask_raw("/logs/?query=ssh")
        assert text.startswith("line\n")
        assert text.endswith("-- ended after 0.3 s --\n")
        program.unlink()
        monkeypatch.setitem(system_logs._QUIET, "PATH", str(program.parent))
        monkeypatch.setenv("PATH", str(program.parent))
        assert await api.ask_raw("/logs/?query=own") == (200, "a service's own\n")
        assert (await api.ask_raw("/logs/?query=ssh"))[0] == 500
    assert api.api.system_logs.at_once.open == 0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([], "must name a service or a file"),
        ([("query", "")], "must name a service or a file"),
        ([("query", "-x")], "not the name of a service"),
        ([("query", "--file=a")], "not the name of a service"),
        ([("query", "a b")], "not the name of a service"),
        ([("query", "a;b")], "not the name of a service"),
        ([("query", "$(reboot)")], "not the name of a service"),
        ([("query", "a" * 257)], "not the name of a service"),
        ([("query", "a\n")], "not the name of a service"),
        ([("query", "/" + "a" * 256)], "not the name of a file"),
        ([("query", "a/./b")], "not the name of a file"),
        ([("query", "a/b\n")], "not the name of a file"),
        ([("query", "../etc/shadow")], "not the name of a file"),
        ([("query", "a/../../b")], "not the name of a file"),
        ([("query", "a//b")], "not the name of a file"),
        ([("query", "a\\b/c")], "not the name of a file"),
        ([("query", "a/b"), ("query", "ssh")], "cannot be asked for together"),
        ([("query", "a/b"), ("query", "c/d")], "only one file"),
        ([("query", "a/b"), ("tailLines", "3")], "options are not for a file"),
        ([("query", "a")] * 5, "at most 4"),
        ([("query", "a"), ("boot", "1")], "less than or equal to 0"),
        ([("query", "a"), ("boot", "-1 --file=x")], "not an integer"),
        ([("query", "a"), ("tailLines", "-1")], f"from 0 to {MAX_LINES}"),
        ([("query", "a"), ("tailLines", str(MAX_LINES + 1))], f"from 0 to {MAX_LINES}"),
        ([("query", "a"), ("tailLines", "9" * 40)], "not an integer"),
        ([("query", "a"), ("pattern", "a\nb")], "printable"),
        ([("query", "a"), ("pattern", "x" * 1025)], "printable"),
        ([("query", "a"), ("pattern", "x"), ("pattern", "y")], "at most one"),
        ([("query", "a"), ("sinceTime", "yesterday")], "not a time"),
        ([("query", "a"), ("sinceTime", "0001-01-01T00:00:00+23:00")], "not a time"),
        ([("query", "a"), ("sinceTime", "2026-01-02T00:00:00Z"), ("untilTime", "2026-01-01T00:00:00Z")], "sinceTime"),
        ([("query", "a"), ("output", "export")], "unknown option"),
    ],
)  # fmt: skip
def test_a_query_with_a_mistake_is_named(query: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(VerbError, match=said.replace("(", r"\(").replace("$", r"\$")) as error:
        parse_log_query(query)
    unreadable = ("unknown option", "at most one", "is not a", "not an integer")
    assert error.value.status == (
        400 if any(one in str(error.value) for one in unreadable) and "name of" not in str(error.value) else 406
    )


def test_times_are_given_in_utc() -> None:
    query = parse_log_query([("query", "ssh"), ("sinceTime", "2026-01-02T01:00:00+02:00")])
    assert "--since=2026-01-01 23:00:00" in journal_command(query)


_TEXT = st.one_of(st.text(max_size=30), st.text(alphabet=f"-={string.ascii_letters}@./ \n;", max_size=30))
_NAMES = st.sampled_from(["query", "boot", "pattern", "sinceTime", "untilTime", "tailLines", "file"])


@given(st.lists(st.tuples(_NAMES, _TEXT), max_size=5))
def test_whatever_is_asked_never_becomes_an_option(pairs: list[tuple[str, str]]) -> None:
    """CVE-2024-9042."""
    try:
        query = parse_log_query([("query", "ssh"), *pairs])
    except VerbError:
        return
    assert isinstance(query, LogQuery)
    known = (
        "--utc", "--no-pager", "--output=short-precise", "--case-sensitive=false",
        "--since=", "--until=", "--lines=", "--unit=", "--grep=", "--boot=",
    )  # fmt: skip
    command = journal_command(query)
    assert command[0] == "journalctl"
    for argument in command[1:]:
        name = argument.partition("=")[0]
        assert any(one.partition("=")[0] == name for one in known)
        assert not argument.startswith("--unit=-")
    assert all("/" not in service for service in query.services)


@pytest.mark.skipif(shutil.which("journalctl") is None, reason="journalctl is not installed")
async def test_the_real_journalctl_takes_every_option() -> None:
    import asyncio

    query = [("query", "ssh"), ("boot", "0"), ("pattern", "a"), ("sinceTime", "2026-01-01T00:00:00Z")]
    more = [("untilTime", "2026-01-02T00:00:00Z"), ("tailLines", "1")]
    command = journal_command(parse_log_query([*query, *more]))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert b"unrecognized option" not in said
    assert b"Failed to parse" not in said
