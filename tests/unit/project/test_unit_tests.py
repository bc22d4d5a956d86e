"""tests/unit has no process, no server and nothing of tests/loopback in it: so it stays fast."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[2]
STARTS = {
    "subprocess", "multiprocessing", "socketserver", "http.server", "os.fork", "os.posix_spawn", "grpc.server",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
    "asyncio.start_server", "asyncio.start_unix_server", "aiohttp.test_utils",
    "daemonkit.unix_http", "cri_client.fake.serve_fake", "tests.loopback",
}  # fmt: skip


def names(path: Path) -> Iterator[str]:
    """All that a module imports, and attributes of modules as they are written."""
    for one in ast.walk(ast.parse(path.read_text())):
        if isinstance(one, ast.Import):
            yield from (alias.name for alias in one.names)
        elif isinstance(one, ast.ImportFrom):
            yield from (f"{one.module}.{alias.name}" for alias in one.names)
        elif isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name):
            yield f"{one.value.id}.{one.attr}"


def started(path: Path) -> list[str]:
    return sorted({one for one in names(path) for start in STARTS if one == start or one.startswith(f"{start}.")})


def test_what_starts_a_process_or_a_server_is_no_unit_test() -> None:
    found = {str(path.relative_to(TESTS)): started(path) for path in (TESTS / "unit").rglob("*.py")}
    assert {path: what for path, what in found.items() if what} == {}, "its place is tests/loopback"


def test_what_starts_one_is_noticed() -> None:
    loopback = TESTS / "loopback"
    assert started(loopback / "project" / "test_ci.py") == ["subprocess", "subprocess.run"]
    assert "tests.loopback.cli.dying.dying_command" in started(loopback / "cli" / "test_backup.py")
