"""Which node the commands talk about: sockets, directories, output format; and the two local APIs as JSON. I/O.

Made by `cli.main` from the global options, used by every command. Uses http.client rather than aiohttp, because a
command that only reads a socket should answer before anybody notices that Python started.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import msgspec

from cli.answers import parse_answer
from cli.failure import FAILED, NOT_FOUND, UNREACHABLE, Failure

Json = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ROOT_DIR = "/var/lib/longshore"
DEFAULT_PROXY_SOCKET = "/run/longshore/proxy.sock"
DEFAULT_MANIFEST_DIR = "/etc/longshore/manifests"
DEFAULT_SERVICE_DIR = "/etc/longshore/services"
DEFAULT_POD_LOGS_DIR = "/var/log/pods"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the global options say. None: ask the daemon, and take the packaged default where it does not answer."""

    root_dir: Path
    agent_socket: Path
    proxy_socket: Path
    manifest_dir: Path | None = None
    service_dir: Path | None = None

    def agent(self, path: str) -> Json:
        """GET `path` from the agent. Raises Failure."""
        return get_json(self.agent_socket, path, "agent")

    def proxy(self, path: str) -> Json:
        """GET `path` from the proxy. Raises Failure."""
        return get_json(self.proxy_socket, path, "proxy")

    def agent_status(self) -> Json:
        """The agent's status, empty where nobody answers."""
        try:
            return self.agent("/v1/status")
        except Failure:
            return {}

    def pods_dir(self) -> Path:
        """Where pod manifests are."""
        return self.manifest_dir or Path(self.agent_status().get("staticPodPath") or DEFAULT_MANIFEST_DIR)

    def services_dir(self) -> Path:
        """Where manifests of Services and EndpointSlices are."""
        return self.followed_services_dir() or Path(DEFAULT_SERVICE_DIR)

    def followed_services_dir(self) -> Path | None:
        """The directory that was asked for, or that the running proxy reads; None where nobody says."""
        if self.service_dir is not None:
            return self.service_dir
        try:
            told = self.proxy("/v1/status").get("manifestDir")
        except Failure:
            return None
        return Path(told) if told else None


def pass_target(command: F) -> F:
    """Give the command the Target as its first argument."""
    return cast(F, click.make_pass_decorator(Target)(command))


def get_json(path: Path, url: str, daemon: str) -> Json:
    """GET `url` from a daemon's socket. Raises Failure that says what to do."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        body = answer.read()
    except PermissionError:
        raise Failure(f"cannot reach the {daemon} at {path}: permission denied; run as root", UNREACHABLE) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        hint = f"is longshore-{daemon} running? (systemctl status longshore-{daemon})"
        raise Failure(f"cannot reach the {daemon} at {path}: {reason}; {hint}", UNREACHABLE) from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise Failure(f"cannot read {url} from the {daemon}: it answers {answer.status} {answer.reason}", FAILED)
    try:
        return parse_answer(url, body)
    except ValueError as error:
        hint = f"is longshore-{daemon} of the same version ({version('longshore')})?"
        raise Failure(f"cannot read {url} from the {daemon}: {error}; {hint}", FAILED) from None


def post_json(path: Path, url: str, value: Json) -> Json:
    """Ask the agent to make something; its answer. Raises Failure with what the agent says against it."""
    connection = _UnixConnection(path)
    try:
        connection.request("POST", url, msgspec.json.encode(value), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.CREATED:
            said = body.decode(errors="replace").strip()
            missing = answer.status == http.client.NOT_FOUND
            raise Failure(f"the agent refuses: {said or answer.reason}", NOT_FOUND if missing else FAILED)
        return msgspec.json.decode(body, type=Json)
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Failure(f"cannot POST {url} at {path}: {str(error) or type(error).__name__}", UNREACHABLE) from None
    finally:
        connection.close()


def send_lines(path: Path, method: str, url: str, silence_s: float) -> Iterator[Json]:
    """Ask the agent to do something; what it says about it, a JSON object a line. Raises Failure, also when it is
    silent for `silence_s`.
    """
    connection = _UnixConnection(path, silence_s)
    try:
        connection.request(method, url)
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise Failure(f"cannot {method} {url}: the agent answers {answer.status} {answer.reason}", FAILED)
        while line := answer.readline():
            yield parse_answer(url, line)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise Failure(f"cannot {method} {url} at {path}: {reason}", UNREACHABLE) from None
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float = _TIMEOUT_S) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
