"""How the API of a node speaks HTTP: as the real kubelet does, beside which each of these was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loopback.agent.server.node_api_lab import ADMIN, ServedApi, served
from tests.loopback.agent.server.test_node_api import write_logs

LOGS = "/containerLogs/default/web/main?tailLines=1"


async def said(api: ServedApi, method: str, path: str, version: str = "1.1") -> tuple[int, dict[str, str], str]:
    """Status, headers in lower case and the body as it came."""
    reader, writer, head = await api.raw(ADMIN)
    writer.write(f"{method} {path} HTTP/{version}\r\nConnection: close\r\n".encode() + head + b"\r\n")
    front, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    first, *lines = front.split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(first.split()[1]), headers, body


async def test_a_client_of_http_1_0_gets_logs_without_chunks(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        write_logs(api)
        status, headers, body = await said(api, "GET", LOGS, "1.0")
        assert (status, body, headers.get("transfer-encoding")) == (200, "three\n", None)
        status, headers, body = await said(api, "GET", LOGS)
        assert (status, body, headers["transfer-encoding"]) == (200, "6\r\nthree\n\r\n0\r\n\r\n", "chunked")


@pytest.mark.parametrize("version", ["0.9", "2.0"])
async def test_what_is_no_http_1_gets_505(tmp_path: Path, version: str) -> None:
    async with served(tmp_path) as api:
        assert (await said(api, "GET", "/healthz", version))[0] == 505


async def test_methods_and_slashes_at_the_end(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api:
        write_logs(api)
        api.reviewer.allowed |= {("admin", "", one) for one in ("healthz", "metrics", "configz", "statusz")}
        for path in ("/healthz", "/metrics", "/metrics/resource", "/configz", "/statusz", "/flagz"):
            status, headers, body = await said(api, "HEAD", path)
            assert (status, body) == (200, ""), path
            assert int(headers["content-length"]) > 0
            assert (await said(api, "POST", path))[0] == 200, path
            assert (await said(api, "GET", f"{path}/"))[0] == 404, path
        for path, allowed in (
            ("/pods", "GET"),
            ("/runningpods", "GET"),
            (LOGS, "GET"),
            ("/run/default/web/main", "POST"),
            ("/exec/default/web/main", "GET, POST"),
            ("/stats/summary", "GET, POST"),
        ):
            status, headers, body = await said(api, "PUT", path)
            assert (status, headers["allow"]) == (405, allowed), path
        assert (await said(api, "POST", "/stats/summary"))[0] == 200
        assert (await said(api, "GET", "/pods/"))[0] == 200
