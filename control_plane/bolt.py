"""Reads etcd's database file: the buckets of a bbolt file, in order.  Pure: bytes in, keys and values out.

Before: `snapshot` has read or mapped a file.  Next: it knows revision, number of keys and version of what is in it.
Every number of the file is checked before it is followed, so a damaged file is an error and never a loop.  Source:
go.etcd.io/bbolt, page.go and bucket.go (the file format has not changed since 2014).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from control_plane.errors import ControlPlaneError

_MAGIC, _VERSION = 0xED0CDAED, 2
_BRANCH, _LEAF, _META = 0x01, 0x02, 0x04
_BUCKET = 0x01
_PAGE = struct.Struct("<QHHI")
_META_PAGE = struct.Struct("<IIIIQQQQQQ")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_ROOT = struct.Struct("<QQ")
_PAGE_SIZES = (1024, 65536)


class BoltError(ControlPlaneError):
    """The file is no bbolt database, or is damaged."""


class Bolt:
    """One database. Raises BoltError, as all its methods do."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        metas = [meta for place in (0, self._page_size()) if (meta := self._meta(place)) is not None]
        if not metas:
            raise BoltError("it has no valid meta page: it is no etcd database")
        newest = max(metas, key=lambda meta: meta[8])
        self._root = self._start(newest[4])

    def bucket(self, name: bytes) -> int | None:
        """Where a bucket of the top level begins; None where there is none.

        A small one lies within its entry, as a page without a number.
        """
        for page in self._leaves(self._root):
            for index in range(self._head(page)[1]):
                key, place, size, flags = self._leaf(page, index)
                if key == name and flags & _BUCKET and size >= _ROOT.size:
                    number = self._unpack(_ROOT, place)[0]
                    return self._start(number) if number else place + _ROOT.size
        return None

    def items(self, bucket: int) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a bucket, in order."""
        for page in self._leaves(bucket):
            for index in range(self._head(page)[1]):
                key, place, size, _ = self._leaf(page, index)
                yield key, bytes(self._data[place : place + size])

    def count(self, bucket: int) -> int:
        """How many keys a bucket has."""
        return sum(self._head(page)[1] for page in self._leaves(bucket))

    def last(self, bucket: int) -> bytes:
        """The greatest key of a bucket, b"" where it has none."""
        key = b""
        for page in self._leaves(bucket):
            if count := self._head(page)[1]:
                key = self._leaf(page, count - 1)[0]
        return key

    def _leaves(self, start: int) -> Iterator[int]:
        """In order; a tree has each branch once."""
        waiting, seen = [start], set[int]()
        while waiting:
            page = waiting.pop()
            flags, count = self._head(page)
            if flags & _LEAF:
                yield page
                continue
            if not flags & _BRANCH or page in seen:
                raise BoltError(f"what lies at {page} is neither branch nor leaf, or a branch that leads to itself")
            seen.add(page)
            places = (page + _PAGE.size + index * _BRANCH_ELEMENT.size for index in reversed(range(count)))
            waiting += [self._start(self._unpack(_BRANCH_ELEMENT, place)[2]) for place in places]

    def _leaf(self, start: int, index: int) -> tuple[bytes, int, int, int]:
        """The key, where its value lies, the value's size, flags."""
        place = start + _PAGE.size + index * _LEAF_ELEMENT.size
        flags, offset, key_size, value_size = self._unpack(_LEAF_ELEMENT, place)
        begin = place + offset
        value = begin + key_size
        if value + value_size > len(self._data):
            raise BoltError(f"the page at {start} names what is beyond the end of the file")
        return bytes(self._data[begin:value]), value, value_size, flags

    def _start(self, number: int) -> int:
        """Of a page."""
        start = number * self._size
        found: int = self._unpack(_PAGE, start)[0]
        if found != number:
            raise BoltError(f"page {number} says that it is page {found}")
        return start

    def _head(self, start: int) -> tuple[int, int]:
        """Of a page its flags, and how many elements it has."""
        _, flags, count, _ = self._unpack(_PAGE, start)
        return flags, count

    def _page_size(self) -> int:
        _, flags, _, _ = self._unpack(_PAGE, 0)
        magic, version, size, *_ = self._unpack(_META_PAGE, _PAGE.size)
        if not flags & _META or magic != _MAGIC or version != _VERSION:
            raise BoltError("it does not begin as an etcd database does")
        if not _PAGE_SIZES[0] <= size <= _PAGE_SIZES[1]:
            raise BoltError(f"it has pages of {size} bytes")
        self._size: int = size
        return self._size

    def _meta(self, start: int) -> tuple[int, ...] | None:
        place = start + _PAGE.size
        try:
            meta = self._unpack(_META_PAGE, place)
        except BoltError:
            return None
        checked = bytes(self._data[place : place + _META_PAGE.size - 8])
        return meta if meta[0] == _MAGIC and meta[9] == _fnv1a(checked) else None

    def _unpack(self, form: struct.Struct, place: int) -> tuple[int, ...]:
        if place < 0 or place + form.size > len(self._data):
            raise BoltError("it ends too early")
        return form.unpack_from(self._data, place)


def _fnv1a(data: bytes) -> int:
    """The 64-bit hash that guards a meta page."""
    value = 0xCBF29CE484222325
    for one in data:
        value = (value ^ one) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
