"""`python -m lab.fetch [-n COUNT] [-t TIMEOUT_S] [-e EVERY_S] URL`: GET a URL COUNT times, each on a connection of its
own, one line per answer, EVERY_S seconds after the last one. I/O.

Before: `LabHost.run` or `run_client` starts it in the right network namespace (busybox's static wget cannot resolve
names and crashes). Next: the caller counts the lines. A failed request is a line `error: <cause>` and makes the exit
status 1.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from urllib.parse import urlsplit


def fetch(url: str, timeout_s: float) -> str:
    """The body's first line; OSError or http.client.HTTPException when there is no good answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{answer.status} {answer.reason}")
        return body.splitlines()[0] if body else ""
    finally:
        connection.close()


def main() -> int:
    """Do what the module's docstring says; the exit status."""
    parser = argparse.ArgumentParser(prog="lab.fetch")
    parser.add_argument("url")
    parser.add_argument("-n", dest="count", type=int, default=1)
    parser.add_argument("-t", dest="timeout_s", type=float, default=5.0)
    parser.add_argument("-e", dest="every_s", type=float, default=0.0)
    arguments = parser.parse_args()
    failed = 0
    for _ in range(arguments.count):
        try:
            print(fetch(arguments.url, arguments.timeout_s), flush=bool(arguments.every_s))
        except (OSError, http.client.HTTPException) as error:
            print(f"error: {error}", flush=bool(arguments.every_s))
            failed = 1
        time.sleep(arguments.every_s)
    return failed


if __name__ == "__main__":
    sys.exit(main())
