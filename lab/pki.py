"""Keys and certificates of a lab's control plane and of other servers of the lab. I/O: writes PEM files.

Before: nothing. Next: `lab.control_plane` gives the files to the API server and into kubeconfigs. What a certificate
is, is `control_plane.x509`'s business.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from control_plane import x509

_VALID = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key in PEM, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own; everything it makes is below `directory`."""

    def __init__(self, directory: Path, name: str = "lab") -> None:
        """Make `ca.key` and `ca.crt`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        key = x509.new_key()
        self._authority = x509.Authority(x509.new_authority(name, key, _now(), 2 * _VALID), key)
        self.certificate = directory / "ca.crt"
        self.certificate.write_bytes(x509.certificate_pem(self._authority.certificate))
        self.key = directory / "ca.key"
        write_key(self.key, key)

    def issue(
        self,
        name: str,
        *,
        groups: Sequence[str] = (),
        addresses: Sequence[str] = (),
        since: datetime.timedelta = datetime.timedelta(0),
        valid: datetime.timedelta = _VALID,
        file: str = "",
    ) -> Pair:
        """A certificate for the user `name` of `groups`, and for a server on `addresses` (IP addresses or names), as it
        was issued `since` ago, `valid` from now on.
        """
        key = x509.new_key()
        subject = x509.Subject(name=name, groups=tuple(groups), addresses=tuple(addresses))
        stem = file or name.replace(":", "-")
        pair = Pair(self._directory / f"{stem}.crt", self._directory / f"{stem}.key")
        made = x509.issue(self._authority, subject, key, _now() - since, since + valid)
        pair.certificate.write_bytes(x509.certificate_pem(made))
        write_key(pair.key, key)
        return pair


def write_key(path: Path, key: x509.Key) -> None:
    """The key in PEM, for its owner only."""
    path.touch(mode=0o600)
    path.write_bytes(x509.key_pem(key))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
