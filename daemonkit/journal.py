"""Where log records go: the journal with fields, or plain lines on stderr.

Called once by main() of each daemon. A record made with extra={"POD": "ns/name", "CONTAINER": ..., "SERVICE": ...} can
be found by `journalctl POD=ns/name`. Source: systemd.exec(5) on JOURNAL_STREAM, systemd.journal-fields(7).
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

FIELDS = ("POD", "CONTAINER", "SERVICE")
_DEBUG_FROM = 4  # klog's convention: -v=4 is debugging
_TRACE_FROM = 8  # and from here on also what the libraries say
_LIBRARIES = ("aiohttp", "asyncio", "grpc", "pyroute2")


def setup_logging(verbosity: int, *, as_json: bool = False) -> None:
    """Send all records to the journal where stderr is connected to it, else to stderr. `verbosity` is klog's -v.

    `as_json`: to stderr in any case, a line of JSON for each, as component-base writes with the format json.
    """
    to_journal = stderr_is_journal() and not as_json
    handler = _journal_handler() if to_journal else _stderr_handler(JsonFormatter() if as_json else PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity >= _DEBUG_FROM else logging.INFO)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET if verbosity >= _TRACE_FROM else logging.WARNING)


def stderr_is_journal() -> bool:
    """JOURNAL_STREAM names the device and inode of our stderr; it may be inherited by what writes elsewhere."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class PlainFormatter(logging.Formatter):
    """TIME LEVEL LOGGER: MESSAGE (POD=... CONTAINER=...), in UTC with milliseconds."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 # the name is the base class's
        """The line, with the fields that the record carries."""
        fields = " ".join(f"{name}={record.__dict__[name]}" for name in FIELDS if record.__dict__.get(name))
        text = super().formatMessage(record)
        return f"{text} ({fields})" if fields else text


class JsonFormatter(logging.Formatter):
    """{"ts": milliseconds since 1970, "caller": LOGGER:LINE, "msg": ..., "v": 0, POD and so on}; "err" for errors."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = {name.lower(): record.__dict__[name] for name in FIELDS if record.__dict__.get(name)}
        told = {"ts": round(record.created * 1000, 3), "caller": f"{record.name}:{record.lineno}"}
        message: dict[str, object] = {**told, "msg": record.getMessage(), **fields}
        if record.levelno < logging.ERROR:
            message["v"] = 0 if record.levelno >= logging.INFO else _DEBUG_FROM
        else:
            message["err"] = record.getMessage()
        if record.exc_info:
            message["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(message)


def _stderr_handler(formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    return handler


def _journal_handler() -> logging.Handler:
    from systemd import journal

    def send(message: str, /, **fields: object) -> None:
        # The handler offers every attribute of the record; journald takes upper case names only.
        journal.send(message, **{name: value for name, value in fields.items() if name.isupper() and value is not None})

    handler: logging.Handler = journal.JournalHandler(
        sender_function=send, SYSLOG_IDENTIFIER=os.path.basename(sys.argv[0])
    )
    return handler
