from __future__ import annotations

import os
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from daemonkit.unix_http import SocketInUseError, serve_unix, unix_session


def hello() -> web.Application:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"hello": "you"})

    app = web.Application()
    app.router.add_get("/v1/hello", answer)
    return app


async def test_served_and_read(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with serve_unix(hello(), path):
        assert os.stat(path).st_mode & 0o777 == 0o600
        async with unix_session(path) as session, session.get("/v1/hello") as response:
            assert await response.json() == {"hello": "you"}
    assert os.listdir(tmp_path) == []


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serve_unix(hello(), path), unix_session(path) as session, session.get("/v1/hello") as response:
        assert response.status == 200


async def test_a_live_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with serve_unix(hello(), path):
        with pytest.raises(SocketInUseError, match="another process serves it"):
            async with serve_unix(hello(), path):
                pass
        async with unix_session(path) as session, session.get("/v1/hello") as response:
            assert response.status == 200


async def test_a_file_in_its_place_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="is not a socket"):
        async with serve_unix(hello(), path):
            pass
    assert path.read_text() == "precious"


async def test_too_long_a_path_is_explained(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(OSError, match="at most 102 bytes"):
        async with serve_unix(hello(), path):
            pass


async def test_a_successors_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with serve_unix(hello(), path):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert path.is_socket()


async def test_nobody_there(tmp_path: Path) -> None:
    async with unix_session(tmp_path / "none.sock") as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("/v1/hello")
