"""Who we are to an API server: the TLS context and the token, read again when their files change.  I/O.

Before: `ApiConfig`.  Next: `kube_client.client` asks before each request.
A renewed certificate is for new connections: those that are open stay, so that not every client of a server comes
back at the same moment.  A file that is missing or half written for a while leaves what was read before in force.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from kube_client.config import ApiConfig, ConfigError, Material

_log = logging.getLogger(__name__)
_LOOK_AGAIN_S = 1.0
_Stamps = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """What goes with a request."""

    tls: ssl.SSLContext
    token: str = ""


class Credentials:
    """The newest identity that could be read."""

    def __init__(self, config: ApiConfig) -> None:
        self._config = config
        self._identity: Identity | None = None
        self._stamps: _Stamps = ()
        self._look_at_s = 0.0
        self._problem = ""

    async def current(self) -> Identity:
        """Raises ConfigError while nothing could be read yet."""
        now_s = asyncio.get_running_loop().time()
        if self._identity is None or now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_AGAIN_S
            await asyncio.to_thread(self._look)
        assert self._identity is not None  # noqa: S101 # _look raises else
        return self._identity

    def doubt(self) -> None:
        """The server does not believe us: look at the files before the next request."""
        self._look_at_s = 0.0

    def _look(self) -> None:
        stamps = _stamps(self._config)
        if self._identity is not None and stamps == self._stamps:
            return
        try:
            self._identity, problem = load_identity(self._config), ""
            self._stamps = stamps
        except ConfigError as error:
            if self._identity is None:
                raise
            problem = f"{error}; the credentials that were read before stay"
        if problem and problem != self._problem:
            _log.error("%s", problem)
        elif self._problem and not problem:
            _log.info("the credentials can be read again")
        self._problem = problem


def load_identity(config: ApiConfig) -> Identity:
    """Read everything.  Raises ConfigError that names file and field."""
    return Identity(_tls(config), _token(config))


def _tls(config: ApiConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if config.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif config.ca is None:
        if any(server.startswith("https:") for server in config.servers):
            context = ssl.create_default_context()  # reads the machine's authorities, which takes 30 ms
    else:
        try:
            context.load_verify_locations(cadata=_pem(config.ca).decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"{_named(config.ca)}: holds no certificate authority: {error}") from None
    if config.certificate is not None and config.key is not None:
        pem = _pem(config.certificate).rstrip() + b"\n" + _pem(config.key)
        try:
            load_pair(context, pem)
        except ConfigError as error:
            raise ConfigError(f"{_named(config.certificate)} and {_named(config.key)}: {error}") from None
    return context


def load_pair(context: ssl.SSLContext, pem: bytes) -> None:
    """Raises ConfigError that names no file.  OpenSSL takes files only; this one never reaches a disk."""
    descriptor = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"not a certificate and its key: {error}") from None
    finally:
        os.close(descriptor)


def _no_password() -> bytes:
    raise ValueError("the key is encrypted")


def _token(config: ApiConfig) -> str:
    if config.token_file is None:
        return config.token
    try:
        text = config.token_file.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read tokenFile {config.token_file}: {_cause(error)}") from None
    if not text or not text.isprintable():
        raise ConfigError(f"cannot read tokenFile {config.token_file}: holds no token")
    return text


def _pem(material: Material) -> bytes:
    if material.path is None:
        return material.data
    try:
        return material.path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{_named(material)}: cannot be read: {_cause(error)}") from None


def _named(material: Material) -> str:
    return material.where if material.path is None else f"{material.where} {material.path}"


def _cause(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _stamps(config: ApiConfig) -> _Stamps:
    materials = (config.ca, config.certificate, config.key)
    paths = [material.path for material in materials if material is not None]
    return tuple(_stamp(path) for path in (*paths, config.token_file) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
