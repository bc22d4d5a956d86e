"""/logs: files below the directory of logs, and with a query the journal of services.  I/O: threads, journalctl.

Before: `server`.  Next: nothing.  A file counts by what was opened: when that lies elsewhere, by whatever link, it is
refused.  The journal is asked by journalctl, for so long and not longer, by so many and no more.  Source: kubelet
/logs (Go's http.FileServer, without its redirects), KEP-2258.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import itertools
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from agent.server.node_api.at_once import AtOnce
from agent.server.node_api.log_query import OPTIONS, LogQuery, files_of_service, journal_command, parse_log_query
from agent.server.node_api.targets import VerbError

MAX_READERS = 20
JOURNAL_S = 30.0
_BLOCK = 256 << 10
_LISTED = 10_000
_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
_NO_SUCH = "404 page not found"
NOTHING = b"-- No entries --\n"
"""All that journalctl says where there is nothing."""
_QUIET = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "TZ": "UTC"}


class SystemLogs:
    """The verb; `queries` as enableSystemLogQuery."""

    def __init__(self, directory: Path, *, queries: bool) -> None:
        self._directory = directory
        self._queries = queries
        self.at_once = AtOnce(MAX_READERS, "system logs")

    async def get(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.StreamResponse:
        """Raises VerbError before the first byte."""
        with self.at_once:
            if not request.query.keys() & OPTIONS:
                return await self._file(request, "/".join(parts))
            if not self._queries:
                raise VerbError(403, "Log query is disabled: enableSystemLogQuery")
            if parts:
                raise VerbError(406, "options are for /logs/ only, a file is given as it is")
            return await self._query(request, parse_log_query(request.query.items()))

    async def _query(self, request: web.BaseRequest, query: LogQuery) -> web.StreamResponse:
        if query.file:
            return await self._file(request, query.file)
        async with contextlib.aclosing(_journal(query)) as said:
            begin = await _beginning(said)
            if begin in (None, b"", NOTHING):
                with contextlib.suppress(VerbError):
                    return await self._own_file(request, query)
            if begin is None:
                raise VerbError(500, "cannot run journalctl: it is not there")
            response = web.StreamResponse(headers=_PLAIN)
            await response.prepare(request)
            await response.write(begin or NOTHING)
            async for block in said:
                await response.write(block)
            await response.write_eof()
            return response

    async def _own_file(self, request: web.BaseRequest, query: LogQuery) -> web.StreamResponse:
        """Of a service that does not write to the journal. Raises VerbError where there is none."""
        if query == LogQuery(services=query.services) and len(query.services) == 1:
            for name in files_of_service(query.services[0]):
                with contextlib.suppress(VerbError):
                    return await self._file(request, name, only_file=True)
        raise VerbError(404, _NO_SUCH)

    async def _file(self, request: web.BaseRequest, name: str, *, only_file: bool = False) -> web.StreamResponse:
        opened = await asyncio.to_thread(_open_below, self._directory, name)
        try:
            if stat.S_ISDIR(os.fstat(opened).st_mode):
                if only_file:
                    raise VerbError(404, _NO_SUCH)
                text = await asyncio.to_thread(_listing, opened)
                return web.Response(text=text, content_type="text/html", charset="utf-8")
            response = web.StreamResponse(headers=_PLAIN)
            await response.prepare(request)
            # What is written meanwhile is not waited for: a file that grows has an end.
            for begin, size in _blocks(os.fstat(opened).st_size):
                block = await asyncio.to_thread(os.pread, opened, size, begin)
                await response.write(block)
            await response.write_eof()
            return response
        finally:
            os.close(opened)


def _open_below(directory: Path, name: str) -> int:
    """A descriptor of the file or directory; nothing else is ever opened. Raises VerbError."""
    try:
        found = os.open(directory / name, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise VerbError(404, _NO_SUCH) from None
    except OSError as error:
        raise VerbError(500, f"cannot open {name}: {error.strerror}") from None
    try:
        place = f"/proc/self/fd/{found}"
        real, base = os.readlink(place), os.path.realpath(directory)
        kind = os.fstat(found).st_mode
        if real != base and not real.startswith(f"{base}/"):
            raise VerbError(403, f"cannot show {name}: it is a link that leads out of {directory}")
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise VerbError(403, f"cannot show {name}: it is neither a file nor a directory")
        return os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise VerbError(500, f"cannot open {name}: {error.strerror}") from None
    finally:
        os.close(found)


def _listing(opened: int) -> str:
    """As Go's file server lists a directory."""
    with os.scandir(opened) as entries:
        names = sorted(f"{one.name}/" if _is_directory(one) else one.name for one in itertools.islice(entries, _LISTED))
        more = "...\n" if next(entries, None) is not None else ""
    lines = (f'<a href="{quote(os.fsencode(name))}">{html.escape(_shown(name))}</a>\n' for name in names)
    head = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n'
    return f"{head}<pre>\n{''.join(lines)}{more}</pre>\n"


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """False for a link that leads nowhere, or to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _shown(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, size, _BLOCK):
        yield begin, min(_BLOCK, size - begin)


async def _beginning(said: AsyncIterator[bytes]) -> bytes | None:
    """Enough of it to see whether there is anything; b"" where there is not, None where nobody can say it."""
    begin = b""
    try:
        async for block in said:
            begin += block
            if len(begin) > len(NOTHING):
                break
    except FileNotFoundError:
        return None
    return begin


async def _journal(query: LogQuery) -> AsyncGenerator[bytes, None]:
    """What journalctl says, for and against; it is ended when its time is over or nobody listens any more.

    Raises FileNotFoundError, VerbError.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *journal_command(query),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=_QUIET,
            cwd="/",
        )
    except FileNotFoundError:
        raise
    except OSError as error:
        raise VerbError(500, f"cannot run journalctl: {error.strerror}") from None
    assert process.stdout is not None  # noqa: S101 # it is a pipe
    ends_s = asyncio.get_running_loop().time() + JOURNAL_S
    try:
        while True:
            async with asyncio.timeout_at(ends_s):
                block = await process.stdout.read(_BLOCK)
            if not block:
                return
            yield block
    except TimeoutError:
        yield f"\n-- ended after {JOURNAL_S:g} s --\n".encode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
