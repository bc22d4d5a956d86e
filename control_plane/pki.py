"""The certificates of a control plane as files below pki/: what is missing is made, what is wrong is named. I/O.

Before: the table `control_plane.certificates`. Next: static pods mount the directory, and `control_plane.kubeconfigs`
has users signed by the same authority. What is there and good is never replaced; only `renew` replaces, and keeps the
keys, so that a crash leaves no certificate beside another's key.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from cryptography import x509

from control_plane.certificates import (
    AUTHORITIES,
    AUTHORITY_VALID,
    CERTIFICATE_VALID,
    CLUSTER_CA,
    SERVICE_ACCOUNTS,
    Certificate,
    certificates,
)
from control_plane.errors import ControlPlaneError
from control_plane.files import PUBLIC, Content, Files
from control_plane.settings import ClusterSettings
from control_plane.x509 import (
    Authority,
    Key,
    MaterialError,
    belongs,
    certificate_pem,
    is_authority,
    issue,
    key_pem,
    new_authority,
    new_key,
    parse_certificate,
    parse_key,
    problem_of,
    public_pem,
    time_problem,
)

T = TypeVar("T")
COMMAND = "longshore control-plane certs"


@dataclass(frozen=True)
class CertificateState:
    """A row for people. `problem` is empty where it can be used; `expires` None where it cannot be read."""

    name: str
    authority: str
    expires: datetime.datetime | None
    problem: str = ""


class Pki:
    """The directory pki/ of one control plane at the moment `now`."""

    def __init__(self, directory: Path, files: Files, now: datetime.datetime) -> None:
        self.directory = directory
        self.now = now
        self._files = files
        self._new: dict[str, Authority] = {}

    def ensure(self, settings: ClusterSettings) -> tuple[Path, ...]:
        """Make what is missing; what was made.

        Raises ControlPlaneError for what is there and cannot be used, and then nothing was made.
        """
        wanted: dict[Path, Content] = {}
        for name in AUTHORITIES:
            if self._read_authority(name) is None:
                wanted |= self._make_authority(name)
        for certificate in certificates(settings):
            if self._read_usable(certificate) is None:
                wanted |= self._make(certificate)
        return self._files.write(wanted | self._service_accounts())

    def renew(self, settings: ClusterSettings, names: Collection[str]) -> tuple[Path, ...]:
        """Issue the certificates called `names` anew, whatever state they are in. Raises ControlPlaneError."""
        wanted: dict[Path, Content] = {}
        for certificate in certificates(settings):
            if certificate.file in names:
                wanted |= self._make(certificate)
        return self._files.write(wanted)

    def states(self, settings: ClusterSettings) -> Iterator[CertificateState]:
        """Every authority and certificate, and what is wrong with it."""
        for name, common_name in AUTHORITIES.items():
            yield self._state(name, common_name, partial(self._read_authority, name))
        for one in certificates(settings):
            yield self._state(one.file, AUTHORITIES[one.authority], partial(self._read_usable, one))

    def authority(self, name: str = CLUSTER_CA) -> Authority:
        """One that can sign. Raises ControlPlaneError."""
        found = self._new.get(name) or self._read_authority(name)
        if found is None:
            raise ControlPlaneError(f"cannot read {self._crt(name)}: it is missing; run {COMMAND}")
        return found

    # Authorities.

    def _read_authority(self, name: str) -> Authority | None:
        """None where its certificate is missing."""
        data, key_data = self._files.read(self._crt(name)), self._files.read(self._key(name))
        if data is None:
            return None
        restore = "put both back from a backup"
        anew = f"{restore}, or begin anew: remove {self._crt(name)} and {self._key(name)}, run {COMMAND} renew"
        if key_data is None:
            raise ControlPlaneError(f"cannot use {self._crt(name)}: its key {self._key(name)} is missing; {anew}")
        certificate = _parsed(self._crt(name), parse_certificate, data, anew)
        key = _parsed(self._key(name), parse_key, key_data, anew)
        if not belongs(certificate, key):
            raise ControlPlaneError(f"cannot use {self._crt(name)}: {self._key(name)} is another's key; {anew}")
        if not is_authority(certificate):
            raise ControlPlaneError(f"cannot use {self._crt(name)}: it may not sign certificates; {anew}")
        if problem := time_problem(certificate, self.now):
            fix = f"remove it and run {COMMAND}, which makes it again with the same key"
            raise ControlPlaneError(f"cannot use {self._crt(name)}: it {problem}; {fix}")
        return Authority(certificate, key)

    def _make_authority(self, name: str) -> dict[Path, Content]:
        """A key without a certificate makes the same authority again: what it has signed stays good."""
        data = self._files.read(self._key(name))
        fix = f"put it back from a backup, or remove it and run {COMMAND} renew"
        key = new_key() if data is None else _parsed(self._key(name), parse_key, data, fix)
        made = new_authority(AUTHORITIES[name], key, self.now, AUTHORITY_VALID)
        self._new[name] = Authority(made, key)
        return self._pair(name, made, key)

    # What they sign.

    def _read_usable(self, one: Certificate) -> x509.Certificate | None:
        """None where it is missing. Raises ControlPlaneError for one that cannot serve its purpose."""
        data, key_data = self._files.read(self._crt(one.file)), self._files.read(self._key(one.file))
        if data is None:
            return None
        fix = f"run {COMMAND} renew {one.file}"
        if key_data is None:
            raise ControlPlaneError(f"cannot use {self._crt(one.file)}: {self._key(one.file)} is missing; {fix}")
        certificate = _parsed(self._crt(one.file), parse_certificate, data, fix)
        key = _parsed(self._key(one.file), parse_key, key_data, fix)
        problem = problem_of(certificate, key, self.authority(one.authority).certificate, one.subject, self.now)
        if problem:
            raise ControlPlaneError(f"cannot use {self._crt(one.file)}: {problem}; {fix}")
        return certificate

    def _make(self, one: Certificate) -> dict[Path, Content]:
        key: Key | None = None
        with contextlib.suppress(MaterialError):
            key = parse_key(self._files.read(self._key(one.file)) or b"")
        key = key or new_key()
        made = issue(self.authority(one.authority), one.subject, key, self.now, CERTIFICATE_VALID)
        return self._pair(one.file, made, key)

    def _service_accounts(self) -> dict[Path, Content]:
        path, public = self._key(SERVICE_ACCOUNTS), self.directory / f"{SERVICE_ACCOUNTS}.pub"
        data = self._files.read(path)
        fix = "put it back from a backup, or remove it and sa.pub (every token of a service account ends)"
        key = new_key() if data is None else _parsed(path, parse_key, data, fix)
        there = self._files.read(public)
        if there is not None and (data is None or there.strip() != public_pem(key).strip()):
            what = "sa.key is missing" if data is None else "it does not belong to sa.key"
            raise ControlPlaneError(f"cannot use {public}: {what}; {fix}")
        made = {} if data is not None else {path: Content(key_pem(key))}
        return made if there is not None else {**made, public: Content(public_pem(key), PUBLIC)}

    # Files.

    def _pair(self, name: str, certificate: x509.Certificate, key: Key) -> dict[Path, Content]:
        """The key first: one that waits for its certificate is used by the next run."""
        return {
            self._key(name): Content(key_pem(key)),
            self._crt(name): Content(certificate_pem(certificate), PUBLIC),
        }

    def _state(self, name: str, authority: str, read: Callable[[], object]) -> CertificateState:
        problem, expires = "", None
        try:
            problem = "" if read() is not None else f"missing; run {COMMAND}"
        except ControlPlaneError as error:
            problem = str(error)
        with contextlib.suppress(MaterialError, ControlPlaneError):
            expires = parse_certificate(self._files.read(self._crt(name)) or b"").not_valid_after_utc
        return CertificateState(name, authority, expires, problem)

    def _crt(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def _key(self, name: str) -> Path:
        return self.directory / f"{name}.key"


def _parsed(path: Path, parse: Callable[[bytes], T], data: bytes, fix: str) -> T:
    try:
        return parse(data)
    except MaterialError as error:
        raise ControlPlaneError(f"cannot use {path}: it {error}; {fix}") from None
