"""The server's TLS: certificate and key of the configuration or made by ourselves, the authority of clients.  I/O.

Before: `ServerConfig`.  Next: `listener` takes a context for each new connection; files that change count from then on,
and one that is half written for a while leaves what was read before in force.  A client's certificate that does not
verify ends the handshake; without one a client needs a token.  With `serverTLSBootstrap` the cluster signs the
certificate (`agent.cluster.serving`): as in the kubelet none signs itself meanwhile, and every handshake fails until
one is signed, and again once that has expired.  A session is never taken up again: no client of this API does it, so a
ticket would only cost each command a packet, and who comes shows its certificate each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from agent.cluster.certificate_files import CertificateError, CertificateFiles, ask_tool
from agent.cluster.certificates import SERVER
from agent.config_server import ServerConfig
from daemonkit.files import write_atomic

CERTIFICATE, KEY = "kubelet.crt", "kubelet.key"
_LOOK_AGAIN_S = 5.0
_RENEW_S = 86400.0
_log = logging.getLogger(__name__)
_Stamps = tuple[tuple[int, int, int] | None, ...]


class TlsError(Exception):
    """There is no context yet; the text reads `cannot <verb> <object>: <cause>`."""


class ServerTls:
    """`current` gives the newest context that could be made."""

    def __init__(self, config: ServerConfig, cert_dir: Path, node_name: str) -> None:
        self._config = config
        self._node_name = node_name
        self._directory = cert_dir
        self._signed = _Signed(CertificateFiles(cert_dir, SERVER)) if config.bootstrap else None
        self._certificate = config.certificate or cert_dir / CERTIFICATE
        self._key = config.key or cert_dir / KEY
        self._context: ssl.SSLContext | None = None
        self._stamps: _Stamps = ()
        self._look_at_s = 0.0
        self._own_until_s = 0.0
        self._problem = ""
        self._lock = asyncio.Lock()

    @property
    def signed_until_s(self) -> float | None:
        """Until when the certificate that the cluster signed is valid (Unix seconds), 0 while there is none; None where
        it is not asked for one.
        """
        return self._signed.until_s if self._signed is not None else None

    async def current(self) -> ssl.SSLContext:
        """Raises TlsError, CertificateError, OSError while there is none."""
        async with self._lock:
            now_s = asyncio.get_running_loop().time()
            if self._context is None or now_s >= self._look_at_s:
                self._look_at_s = now_s + _LOOK_AGAIN_S
                if await self._has_files():
                    await asyncio.to_thread(self._look)
        assert self._context is not None  # noqa: S101 # _look raises else
        return self._context

    async def _has_files(self) -> bool:
        if self._signed is None:
            return self._config.certificate is not None or await self._has_own()
        await self._signed.look()
        return True

    async def _has_own(self) -> bool:
        """Whether one could be made, if it was due. Raises CertificateError, OSError while there is no context."""
        try:
            await self._make_own()
            return True
        except (OSError, CertificateError) as error:
            if self._context is None:
                raise
            cause = error.strerror if isinstance(error, OSError) else str(error)
            self._say(f"cannot renew the certificate of this node's API: {cause}")
            return False

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            _log.error("%s; what was read before stays in force", problem)

    async def _make_own(self) -> None:
        """A certificate that signs itself, as the kubelet makes one where it is given none; kept over restarts."""
        if time.time() < self._own_until_s - _RENEW_S:
            return
        try:
            self._own_until_s = (await ask_tool("read", text=self._certificate.read_bytes()))["until"]
            whole = self._key.exists()
        except (OSError, CertificateError):
            whole = False
        if whole and time.time() < self._own_until_s - _RENEW_S:
            return
        made = await ask_tool("self-signed", self._node_name, text=b"")
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self._key, made["key"].encode())
        write_atomic(self._certificate, made["certificate"].encode())
        self._own_until_s = made["until"]
        _log.info("made the certificate %s for the API of this node", self._certificate)

    def _look(self) -> None:
        pair = self._pair()
        paths = (*pair, *([self._config.client_ca] if self._config.client_ca else ()))
        stamps = tuple(_stamp(path) for path in paths)
        if self._context is not None and stamps == self._stamps:
            return
        try:
            self._context, self._stamps, self._problem = self._make(pair), stamps, ""
        except TlsError as error:
            if self._context is None:
                raise
            self._say(str(error))

    def _pair(self) -> tuple[Path, Path] | tuple[()]:
        """The files of certificate and key that are in force; () while the cluster has signed none."""
        if self._signed is not None:
            if time.time() < self._signed.until_s:
                return self._signed.path, self._signed.path
            if self._config.certificate is None:
                return ()
        return self._certificate, self._key

    def _make(self, pair: tuple[Path, Path] | tuple[()]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3 if self._config.tls13_only else ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0
        if self._config.ciphers:
            context.set_ciphers(":".join(self._config.ciphers))
        context.set_alpn_protocols(["http/1.1"])
        if pair:
            _load(context.load_cert_chain, *pair)
        else:
            _log.warning(
                "the API of this node has no certificate that the cluster has signed: no connection to it works"
            )
        if self._config.client_ca is not None:
            _load(context.load_verify_locations, self._config.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


class _Signed:
    """The certificate of the cluster: its file, and until when it is valid (Unix time), 0 where there is none."""

    def __init__(self, files: CertificateFiles) -> None:
        self.path = files.current
        self.until_s = 0.0
        self._files = files
        self._stamp: tuple[int, int, int] | None = None

    async def look(self) -> None:
        """Read it again if it is another file."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            valid = await self._files.validity()
            self.until_s, self._stamp = valid.until_s if valid is not None else 0.0, stamp


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _load(read: Callable[..., None], *paths: Path) -> None:
    """Raises TlsError that names the files."""
    try:
        read(*paths)
    except OSError as error:  # which an SSLError is
        raise TlsError(f"cannot read the TLS files of this node's API: {_cause(error, paths)}") from None


def _cause(error: OSError, paths: tuple[Path, ...]) -> str:
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        return f"{missing} does not exist"
    cause = (error.reason or "not PEM").replace("_", " ") if isinstance(error, ssl.SSLError) else error.strerror
    return f"{' and '.join(dict.fromkeys(map(str, paths)))}: {cause}"
