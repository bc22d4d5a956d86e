"""Writes the files of a configMap, secret, downwardAPI or projected volume so that readers see all of the old or all of
the new.

Before: payload.py says what the files are.  Next: containers read them.  Effects: files in the volume's directory,
which is the agent's own.  The layout is the kubelet's, and applications watch it:

    ..2026_11_27_19_58_00.123456789/   the files
    ..data -> that directory           replaced by rename: this is the moment of the update
    NAME -> ..data/NAME                for each first part of a path

A crash between any two steps leaves the old or the new behind `..data`; the next call clears away the rest. Nothing is
synced: after a power cut no container starts before everything has been compared again. What a container with too many
rights has put in the place of a link or a directory is replaced or removed, never followed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator

from agent.volumes.payload import Payload, ProjectedFile
from agent.volumes.tree import remove_tree

DATA = "..data"
_NEW_DATA = "..data_tmp"
_VERSION = re.compile(r"\.\.\d{4}(_\d\d){5}\.\d{9}\Z")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_payload(directory: str, payload: Payload, group_id: int | None = None) -> bool:
    """Make the volume in `directory` (which must exist) hold exactly the payload; whether anything had to change.

    With `group_id` (fsGroup) the group owns and may read everything.  Raises OSError.
    """
    fd = os.open(directory, _DIRECTORY)
    try:
        wanted = {path: _readable(file, group_id) for path, file in payload.items()}
        version = _current(fd)
        changed = version is None or _read_version(fd, version) != wanted
        if changed or version is None:
            version = _write_version(fd, wanted, group_id)
            _swap(fd, version)
        names = {path.partition("/")[0] for path in payload}
        _show(fd, directory, names)
        _clear(fd, directory, {DATA, version, *names})
        return changed
    finally:
        os.close(fd)


def is_written(directory: str) -> bool:
    """Whether the volume has been filled once."""
    return os.path.islink(os.path.join(directory, DATA))


def _readable(file: ProjectedFile, group_id: int | None) -> ProjectedFile:
    return file if group_id is None else ProjectedFile(file.data, file.mode | 0o440, file.user_id)


def _current(fd: int) -> str | None:
    """The version behind `..data`, None when there is none of ours."""
    try:
        target = os.readlink(DATA, dir_fd=fd)
    except OSError:
        return None
    return target if _VERSION.match(target) else None


def _read_version(fd: int, version: str) -> dict[str, ProjectedFile] | None:
    """The files of a version, None when it is not whole or not ours."""
    try:
        return dict(_walk(fd, version, ""))
    except (OSError, ValueError):
        return None


def _walk(parent_fd: int, name: str, prefix: str) -> Iterator[tuple[str, ProjectedFile]]:
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        with os.scandir(fd) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for one, is_directory in found:
            if is_directory:
                yield from _walk(fd, one, f"{prefix}{one}/")
            else:
                yield f"{prefix}{one}", _read_file(fd, one)
    finally:
        os.close(fd)


def _read_file(fd: int, name: str) -> ProjectedFile:
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{name} is not a file of ours")
        return ProjectedFile(file.read(), stat.S_IMODE(mode))


def _write_version(fd: int, files: Payload, group_id: int | None) -> str:
    now_ns = time.time_ns()
    stamp = time.strftime("%Y_%m_%d_%H_%M_%S", time.gmtime(now_ns // 1_000_000_000))
    version = f"..{stamp}.{now_ns % 1_000_000_000:09d}"
    top = _make_directory(fd, version, group_id)
    try:
        for path, file in files.items():
            _write_file(top, path.split("/"), file, group_id)
    finally:
        os.close(top)
    return version


def _write_file(fd: int, parts: list[str], file: ProjectedFile, group_id: int | None) -> None:
    if len(parts) > 1:
        below = _make_directory(fd, parts[0], group_id)
        try:
            return _write_file(below, parts[1:], file, group_id)
        finally:
            os.close(below)
    made = os.open(parts[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
    with open(made, "wb") as stream:
        stream.write(file.data)
        os.fchown(made, -1 if file.user_id is None else file.user_id, -1 if group_id is None else group_id)
        os.fchmod(made, file.mode)
    return None


def _make_directory(fd: int, name: str, group_id: int | None) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=fd)
    made = os.open(name, _DIRECTORY, dir_fd=fd)
    if group_id is not None:
        os.fchown(made, -1, group_id)
    os.fchmod(made, 0o755 if group_id is None else 0o2775)
    return made


def _swap(fd: int, version: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_NEW_DATA, dir_fd=fd)
    os.symlink(version, _NEW_DATA, dir_fd=fd)
    os.rename(_NEW_DATA, DATA, src_dir_fd=fd, dst_dir_fd=fd)


def _show(fd: int, directory: str, names: Iterable[str]) -> None:
    for name in names:
        target = f"{DATA}/{name}"
        try:
            if os.readlink(name, dir_fd=fd) == target:
                continue
            _remove(fd, directory, name)
        except FileNotFoundError:
            pass
        except OSError:  # not a link
            _remove(fd, directory, name)
        os.symlink(target, name, dir_fd=fd)


def _clear(fd: int, directory: str, kept: set[str]) -> None:
    """Remove what neither `..data` nor the payload names: old versions, half-written ones, files that are gone."""
    for entry in os.listdir(fd):
        if entry not in kept:
            _remove(fd, directory, entry)


def _remove(fd: int, directory: str, name: str) -> None:
    try:
        os.unlink(name, dir_fd=fd)
    except IsADirectoryError:
        remove_tree(directory, name)
