"""The format of a node backup: what an archive says of itself, and bytes <-> archive. Pure.

Before: `snapshot` has read the node, or `show` a file. Next: one file is written, or `install` puts back what was
checked here. An archive is a gzip (RFC 1952) of a tar (tar(5)): first `longshore-backup.json`, an Inventory, then every
regular file as `files/PATH`. Directories and symbolic links are in the inventory only, so that nothing in the tar can
lead out of the place where somebody unpacks it. An archive is wholly good or refused.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec

FORMAT = 1
MAX_FILE_BYTES = 32 << 20
MAX_TOTAL_BYTES = 128 << 20
MAX_ENTRIES = 20_000
KEPT = ".before-restore"
_KEPT_NAME = re.compile(rf".+{re.escape(KEPT)}(\.[0-9]+)?", re.DOTALL)
_INVENTORY = "longshore-backup.json"
MAX_PACKED_BYTES = MAX_TOTAL_BYTES + MAX_ENTRIES * 4096
_DIGEST_CHARACTERS = 64

Kind: TypeAlias = Literal["file", "directory", "symlink"]


class ArchiveError(ValueError):
    """This is no archive to restore from; the text is the cause, for "cannot read FILE: CAUSE"."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One file, directory or symbolic link. `path` is absolute, `modified_s` Unix seconds, `target` where a link leads.

    `user` and `group` are the names of `uid` and `gid` where the node had names for them.
    """

    path: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    modified_s: float = 0.0
    size: int = 0
    sha256: str = ""
    target: str = ""


class ControlPlane(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of a node that runs one. `manifests` must not be the agent's without data in `etcd_data`, and wait in `aside`.

    `snapshot` is the path of etcd's, "" where none could be made.
    """

    etcd_data: str
    aside: str
    manifests: list[str]
    snapshot: str = ""


class Inventory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What an archive holds. `roots`: the directories and files that were looked at, `manifest_dirs` those of them that
    a daemon reads manifests from; `absent`: what was looked for and is not there; `notes`: what was left out.

    `layout`: version of the state directory, `created`: RFC 3339.
    """

    format: int = 0
    longshore: str
    layout: int
    node: str
    created: str
    root_dir: str
    roots: list[str]
    manifest_dirs: list[str] = []
    absent: list[str] = []
    notes: list[str] = []
    control_plane: ControlPlane | None = None
    entries: list[Entry]


class _Version(msgspec.Struct):
    format: int
    longshore: str = "?"


def digest(data: bytes) -> str:
    """SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def render_archive(inventory: Inventory, contents: Mapping[str, bytes]) -> bytes:
    """The archive as bytes; `contents` has the bytes of every regular file by its path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        text = msgspec.json.format(msgspec.json.encode(inventory)) + b"\n"
        _add(tar, Entry(path=_INVENTORY, kind="file", mode=0o600, uid=0, gid=0, size=len(text)), _INVENTORY, text)
        for entry in inventory.entries:
            if entry.kind == "file":
                _add(tar, entry, _member(entry.path), contents[entry.path])
    return gzip.compress(buffer.getvalue(), mtime=0)


def _add(tar: tarfile.TarFile, entry: Entry, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), entry.mode, int(entry.modified_s)
    member.uid, member.gid, member.uname, member.gname = entry.uid, entry.gid, entry.user, entry.group
    tar.addfile(member, io.BytesIO(data))


def parse_archive(data: bytes) -> tuple[Inventory, dict[str, bytes]]:
    """The inventory, and the bytes of every regular file by path, all of it checked. Raises ArchiveError."""
    members = _parse_tar(_unpack(data))
    inventory = _parse_inventory(members.pop(_INVENTORY, None))
    _check_entries(inventory)
    files = {entry.path: entry for entry in inventory.entries if entry.kind == "file"}
    unknown = members.keys() - {_member(path) for path in files}
    if unknown:
        raise ArchiveError(f"it holds {min(unknown)!r}, which its inventory does not name")
    contents: dict[str, bytes] = {}
    for path, entry in files.items():
        found = members.get(_member(path))
        if found is None:
            raise ArchiveError(f"{path} is missing from it")
        if len(found) != entry.size or digest(found) != entry.sha256:
            raise ArchiveError(f"{path} is damaged: its checksum is not the one in the inventory")
        contents[path] = found
    return inventory, contents


def _unpack(data: bytes) -> bytes:
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)  # 16: a gzip, whose checksum and length zlib compares
    try:
        found = unpacker.decompress(data, MAX_PACKED_BYTES)
    except zlib.error as error:
        raise ArchiveError(f"it is damaged or no backup ({error})") from None
    if unpacker.unconsumed_tail:
        raise ArchiveError(f"it unpacks to more than {MAX_PACKED_BYTES >> 20} MiB")
    if not unpacker.eof:
        raise ArchiveError("it is cut off" if data else "it is empty")
    if unpacker.unused_data:
        raise ArchiveError("something follows its end")
    return found


def _parse_tar(data: bytes) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.type == tarfile.REGTYPE and not member.sparse else None
                if file is None:
                    raise ArchiveError(f"{member.name!r} in it is no regular file")
                if member.name in members:
                    raise ArchiveError(f"{member.name!r} is in it twice")
                members[member.name] = file.read()
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(f"it is no tar that this version understands ({error})") from None
    return members


def _parse_inventory(text: bytes | None) -> Inventory:
    if text is None:
        raise ArchiveError(f"it has no {_INVENTORY}; it was not made by `longshore backup`")
    try:
        version = msgspec.json.decode(text, type=_Version)
        if version.format > FORMAT:
            message = f"its format is {version.format}, written by longshore {version.longshore}, and this is older"
            raise ArchiveError(f"{message} (format {FORMAT}); install that version")
        if version.format != FORMAT:
            raise ArchiveError(f"its format {version.format} is unknown")
        return msgspec.json.decode(text, type=Inventory)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ArchiveError(f"its {_INVENTORY} cannot be read: {error}") from None


def _check_entries(inventory: Inventory) -> None:
    if len(inventory.entries) > MAX_ENTRIES:
        raise ArchiveError(f"it holds more than {MAX_ENTRIES} files")
    if sum(entry.size for entry in inventory.entries) > MAX_TOTAL_BYTES:
        raise ArchiveError(f"its files are larger than {MAX_TOTAL_BYTES >> 20} MiB together")
    for path in (inventory.root_dir, *inventory.roots, *inventory.manifest_dirs):
        _check_path(path)
    if inventory.control_plane is not None:
        _check_control_plane(inventory.control_plane, inventory.roots)
    kinds: dict[str, str] = {}
    for entry in inventory.entries:
        _check_entry(entry, inventory.roots)
        if entry.path in kinds:
            raise ArchiveError(f"{entry.path} is in it twice")
        kinds[entry.path] = entry.kind
    for path in kinds:
        for parent in parents(path):
            if kinds.get(parent, "directory") != "directory":
                raise ArchiveError(f"{path} lies below {parent}, which is a {kinds[parent]}")


def _check_entry(entry: Entry, roots: Iterable[str]) -> None:
    _check_path(entry.path)
    if not any(is_within(entry.path, root) for root in roots):
        raise ArchiveError(f"{entry.path} is in none of its directories")
    if is_reserved(posixpath.basename(entry.path)):
        raise ArchiveError(f"the name of {entry.path} is kept for files of `longshore restore`")
    if not 0 <= entry.mode <= 0o7777 or not (0 <= entry.uid < 2**32 - 1 and 0 <= entry.gid < 2**32 - 1):
        raise ArchiveError(f"mode or owner of {entry.path} cannot be")
    if not -(2.0**40) < entry.modified_s < 2.0**40:
        raise ArchiveError(f"the time of {entry.path} cannot be")
    sound = {
        "file": 0 <= entry.size <= MAX_FILE_BYTES and len(entry.sha256) == _DIGEST_CHARACTERS,
        "directory": entry.size == 0,
        "symlink": entry.size == 0 and bool(entry.target) and "\0" not in entry.target,
    }
    if not sound[entry.kind]:
        raise ArchiveError(f"what it says of {entry.path} cannot be")


def _check_control_plane(plane: ControlPlane, roots: Iterable[str]) -> None:
    for path in (plane.etcd_data, plane.aside, *plane.manifests):
        _check_path(path)
    if not any(is_within(plane.aside, root) for root in roots):
        raise ArchiveError(f"{plane.aside} is in none of its directories")


def _check_path(path: str) -> None:
    plain = path.startswith("/") and not path.startswith("//") and posixpath.normpath(path) == path and path != "/"
    if not plain or not path.isprintable():
        raise ArchiveError(f"{path!r} is no absolute path without '..'")


def is_within(path: str, directory: str) -> bool:
    """Whether `path` is the directory or lies in it; both normal and absolute."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def is_reserved(name: str) -> bool:
    """Names that backups leave out: half-written files, and what an earlier restore kept aside."""
    return (name.startswith(".") and name.endswith(".tmp")) or _KEPT_NAME.fullmatch(name) is not None


def parents(path: str) -> Iterable[str]:
    """Every directory above `path`, nearest first, without "/"."""
    while (path := posixpath.dirname(path)) not in ("/", ""):
        yield path


def _member(path: str) -> str:
    return "files" + path
