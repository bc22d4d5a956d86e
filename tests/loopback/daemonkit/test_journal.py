from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from daemonkit.journal import JsonFormatter, PlainFormatter, setup_logging, stderr_is_journal


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.parametrize(("verbosity", "level"), [(0, "INFO"), (2, "INFO"), (4, "DEBUG"), (10, "DEBUG")])
def test_klog_levels(verbosity: int, level: str) -> None:
    setup_logging(verbosity)
    assert logging.getLevelName(logging.getLogger().level) == level
    assert logging.getLogger("grpc").isEnabledFor(logging.INFO) == (verbosity >= 8)


def test_plain_lines_carry_the_fields() -> None:
    record = logging.LogRecord("agent.pods", logging.WARNING, "f.py", 1, "cannot %s", ("start",), None)
    record.__dict__.update({"POD": "default/web", "CONTAINER": "web"})
    record.created, record.msecs = 0.0, 7.0
    assert PlainFormatter().format(record) == (
        "1970-01-01T00:00:00.007Z WARNING agent.pods: cannot start (POD=default/web CONTAINER=web)"
    )


def test_lines_of_json_are_those_of_component_base() -> None:
    record = logging.LogRecord("proxy.sync", logging.ERROR, "f.py", 3, "cannot %s", ("write",), None)
    record.__dict__["SERVICE"] = "default/web"
    record.created = 1.5
    assert json.loads(JsonFormatter().format(record)) == {
        "ts": 1500.0,
        "caller": "proxy.sync:3",
        "msg": "cannot write",
        "err": "cannot write",
        "service": "default/web",
    }
    told = logging.LogRecord("proxy.sync", logging.DEBUG, "f.py", 3, "two\nlines", (), None)
    assert "\n" not in JsonFormatter().format(told)
    assert json.loads(JsonFormatter().format(told))["v"] == 4


def test_an_inherited_journal_stream_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not stderr_is_journal()
    monkeypatch.setenv("JOURNAL_STREAM", "nonsense")
    assert not stderr_is_journal()


SCRIPT = """
import logging, sys
from daemonkit.journal import setup_logging, stderr_is_journal
setup_logging(0)
print(type(logging.getLogger().handlers[0]).__name__, stderr_is_journal())
logging.getLogger("agent").info("pod is %s", "ready", extra={"POD": "default/web", "SERVICE": None})
"""


def run_with_stderr(stderr: int, journal_stream: str) -> str:
    environment = {**os.environ, "JOURNAL_STREAM": journal_stream}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True, check=True
    )
    return done.stdout


def test_stderr_that_is_the_journal_gets_the_journal_handler() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        out = run_with_stderr(theirs.fileno(), f"{status.st_dev}:{status.st_ino}")
        assert out == "JournalHandler True\n"


def test_any_other_stderr_gets_plain_lines() -> None:
    reader, writer = os.pipe()
    try:
        assert run_with_stderr(writer, "1:2") == "StreamHandler False\n"
        line = os.read(reader, 4096).decode()
    finally:
        os.close(reader)
        os.close(writer)
    assert re.fullmatch(r"[-0-9T:.]+Z INFO agent: pod is ready \(POD=default/web\)\n", line)


def test_the_journal_gets_fields_that_it_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    from daemonkit.journal import _journal_handler
    from systemd import journal

    sent: list[dict[str, object]] = []
    monkeypatch.setattr(journal, "send", lambda message, **fields: sent.append({"MESSAGE": message, **fields}))
    record = logging.LogRecord("agent", logging.ERROR, "f.py", 3, "cannot %s", ("start",), None)
    record.__dict__.update({"POD": "default/web", "SERVICE": None})
    _journal_handler().emit(record)
    (fields,) = sent
    assert (fields["MESSAGE"], fields["POD"], fields["PRIORITY"]) == ("cannot start", "default/web", "3")
    assert all(re.fullmatch("[A-Z][A-Z0-9_]*", name) for name in fields)
    assert "SERVICE" not in fields
