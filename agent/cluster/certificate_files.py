"""The files of a node's certificate below --cert-dir, named as the kubelet names them.  I/O.

Before: `signing` has a new certificate.  Next: `kube_client.credentials` reads `kubelet-client-current.pem` again, or
the node's API `kubelet-server-current.pem`, which names the newest file that holds certificate and key.  Every step
leaves a whole certificate in force; a key that waits for its certificate outlives its agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.cluster.certificates import CLIENT, NODES_GROUP, Purpose, Validity, user_name
from daemonkit.files import remove_durably, sync_directory, write_atomic
from kube_client.config import ConfigError
from kube_client.credentials import load_pair

_TOOL = str(Path(__file__).with_name("certificate_tool.py"))
_TOOL_S = 60.0


class CertificateError(Exception):
    """A certificate or key cannot be used; the text reads `cannot <verb> <object>: <cause>`."""


class CertificateFiles:
    """The directory; its methods that are coroutines ask the tool."""

    def __init__(self, directory: Path, purpose: Purpose = CLIENT) -> None:
        self.directory = directory
        self.purpose = purpose
        self._prefix = f"kubelet-{purpose.name}"
        self.current = directory / f"{self._prefix}-current.pem"
        self._waiting_key = directory / f"{self._prefix}.key.tmp"

    async def validity(self) -> Validity | None:
        """Of the present certificate; None where there is none that can be read."""
        with contextlib.suppress(OSError, CertificateError):
            return await read_validity(self.current.read_bytes())
        return None

    async def request(self, node_name: str, names: Sequence[str] = ()) -> dict[str, str]:
        """`key`, `request` and `digest` (see `certificate_tool`), of the key that waits already if there is one.

        `names` are DNS names and addresses of a server.

        Raises CertificateError, OSError.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._waiting_key
        key = path.read_bytes() if path.exists() else b""
        if key and self.current.exists() and key.strip() in self.current.read_bytes():
            key = b""  # it has its certificate: the agent was killed before it could say so
        arguments = ("request", user_name(node_name), NODES_GROUP, *names)
        try:
            made = await ask_tool(*arguments, text=key)
        except CertificateError:
            if not key:
                raise
            made = await ask_tool(*arguments, text=b"")  # what waited there was no key
        write_atomic(path, made["key"].encode())
        return made

    def put(self, certificate: bytes, key: bytes) -> None:
        """Put them in force and take the files of older ones away.  Raises CertificateError, OSError."""
        pair = certificate.rstrip() + b"\n" + key
        try:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), pair)
        except ConfigError as error:
            raise CertificateError(f"cannot use the new {self.purpose.name} certificate: {error}") from None
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.directory / f"{self._prefix}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d-%H-%M-%S}.pem"
        write_atomic(path, pair)
        link = self.directory / f".{self.current.name}.tmp"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        link.rename(self.current)
        sync_directory(self.directory)
        remove_durably(self._waiting_key)
        for old in self.directory.glob(f"{self._prefix}-2*.pem"):
            if old != path:
                old.unlink(missing_ok=True)

    def forget_waiting(self) -> None:
        """The next request is for another key."""
        remove_durably(self._waiting_key)


async def read_validity(certificate: bytes) -> Validity:
    """Raises CertificateError."""
    found = await ask_tool("read", text=certificate)
    return Validity(found["from"], found["until"], tuple(found["names"]))


async def ask_tool(*arguments: str, text: bytes) -> dict[str, Any]:
    """What `certificate_tool` says; `text` goes to its standard input.  Raises CertificateError."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", _TOOL, *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(_TOOL_S):
            output, errors = await process.communicate(text)
    except TimeoutError:
        raise CertificateError(f"cannot {arguments[0]} a certificate: no answer within {_TOOL_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise CertificateError(f"cannot {arguments[0]} a certificate: {lines[-1] if lines else process.returncode}")
    found = json.loads(output)
    assert isinstance(found, dict)  # noqa: S101 # the tool is ours
    return found
