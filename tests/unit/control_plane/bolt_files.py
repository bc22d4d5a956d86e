"""Writes the smallest files that bbolt would read, for tests of those who read them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence

SIZE = 4096
LEAF, BRANCH, META = 0x02, 0x01, 0x04
MAGIC = 0xED0CDAED


def fnv1a(data: bytes) -> int:
    value = 14695981039346656037
    for one in data:
        value = (value ^ one) * 1099511628211 % 2**64
    return value


def page(number: int, flags: int, elements: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    """A leaf with (flags, key, value), whose contents follow its elements."""
    heads, contents = b"", b""
    for index, (kind, key, value) in enumerate(elements):
        offset = (len(elements) - index) * 16 + len(contents)
        heads += struct.pack("<IIII", kind, offset, len(key), len(value))
        contents += key + value
    return struct.pack("<QHHI", number, flags, len(elements), 0) + heads + contents


def branch(number: int, children: Sequence[int]) -> bytes:
    heads = b"".join(struct.pack("<IIQ", 0, 0, child) for child in children)
    return struct.pack("<QHHI", number, BRANCH, len(children), 0) + heads


def meta(number: int, transaction: int, root: int) -> bytes:
    fields = struct.pack("<IIIIQQQQQ", MAGIC, 2, SIZE, 0, root, 0, 2, 9, transaction)
    return struct.pack("<QHHI", number, META, 0, 0) + fields + struct.pack("<Q", fnv1a(fields))


def database(keys: Sequence[bytes], version: str = "3.6.0", values: Mapping[bytes, bytes] | None = None) -> bytes:
    """Buckets `key`, over two leaves and a branch, and `meta`, inline."""
    values = values or {}
    half = len(keys) // 2
    of_version = [(0, b"storageVersion", version.encode())] if version else []
    inline = struct.pack("<QQ", 0, 0) + page(0, LEAF, of_version)
    tops = [(1, b"key", struct.pack("<QQ", 4, 0)), (1, b"meta", inline)]
    pages = [
        meta(0, 7, 3),
        meta(1, 6, 8),
        b"",
        page(3, LEAF, tops),
        branch(4, [5, 6]),
        page(5, LEAF, [(0, key, values.get(key, b"")) for key in keys[:half]]),
        page(6, LEAF, [(0, key, values.get(key, b"")) for key in keys[half:]]),
    ]
    return b"".join(one.ljust(SIZE, b"\0") for one in pages)


def with_digest(data: bytes) -> bytes:
    """As a snapshot ends."""
    return data + hashlib.sha256(data).digest()


def revision(number: int) -> bytes:
    """As a key of the bucket `key`."""
    return number.to_bytes(8, "big") + b"_" + bytes(8)
