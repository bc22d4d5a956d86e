"""Keeps small secrets on disk: sealed by a key of 32 bytes, so that the file alone, a copy or a backup of it, tells
nothing and cannot be changed unnoticed.

Used by the record of a cluster's objects.  Blocking I/O on local disks.  What it protects is what the key's place
protects: with the key in a file beside the sealed ones, who reads the whole disk as root reads both; a systemd
credential (`LoadCredentialEncrypted=`) keeps the key with the TPM or the host's own key.  AES-256-GCM, a random
nonce of 12 bytes for each write; the file's name is sealed with it, so that no file takes another's place.
"""

from __future__ import annotations

import os
from pathlib import Path

from daemonkit.files import write_atomic

KEY_BYTES = 32
_MAGIC = b"LSSEAL1\n"
_NONCE_BYTES = 12


class SealError(ValueError):
    """A sealed file, or the key, is not what it should be; the text says why and quotes nothing."""


def read_key(path: Path) -> bytes:
    """The key in the file `path`, made there (mode 0600) where there is none. Raises SealError, OSError."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = os.urandom(KEY_BYTES)
        write_atomic(path, key, 0o600)
    if len(key) != KEY_BYTES:
        raise SealError(f"cannot use key {path}: it has {len(key)} bytes, not {KEY_BYTES}")
    return key


def write_sealed(path: Path, key: bytes, data: bytes) -> None:
    """Replace the file, atomically. Raises OSError."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # late: it is big, and few nodes seal anything

    nonce = os.urandom(_NONCE_BYTES)
    write_atomic(path, _MAGIC + nonce + AESGCM(key).encrypt(nonce, data, _bound_to(path)), 0o600)


def read_sealed(path: Path, key: bytes) -> bytes | None:
    """What the file holds, None where there is none. Raises SealError, OSError."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    if not whole.startswith(_MAGIC):
        raise SealError("it is no sealed file")
    start = len(_MAGIC) + _NONCE_BYTES
    try:
        return AESGCM(key).decrypt(whole[len(_MAGIC) : start], whole[start:], _bound_to(path))
    except (InvalidTag, ValueError):
        raise SealError("it is cut off, was changed, or was sealed by another key") from None


def _bound_to(path: Path) -> bytes:
    return _MAGIC + path.name.encode()
