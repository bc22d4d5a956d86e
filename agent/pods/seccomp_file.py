"""Is a seccomp profile of the node's disk one at all? I/O on `<root-dir>/seccomp`.

Before: `execute` is about to create a container that names one. Next: the runtime reads the same file. What it makes of
a file that is missing or says nothing is not left to it: such a container does not start (CVE-2023-2431).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import msgspec

from agent.container_spec.facts import SpecError

MAX_BYTES = 1 << 20


class _Profile(msgspec.Struct):
    defaultAction: str  # noqa: N815 - the file's own spelling


def check_seccomp_files(paths: Iterable[str], root_dir: str) -> None:
    """Raises SpecError for one that cannot be read, is no profile, or lies elsewhere through a link."""
    home = os.path.realpath(os.path.join(root_dir, "seccomp"))
    for path in paths:
        if os.path.commonpath([home, os.path.realpath(path)]) != home:
            raise SpecError(f"cannot load seccomp profile {path}: it lies outside of {home}")
        try:
            with open(path, "rb") as file:
                text = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise SpecError(f"cannot load seccomp profile {path}: {error.strerror}") from error
        try:
            profile = msgspec.json.decode(text, type=_Profile)
        except ValueError as error:
            raise SpecError(f"cannot load seccomp profile {path}: {error}") from error
        if not profile.defaultAction.startswith("SCMP_ACT_"):
            raise SpecError(f"cannot load seccomp profile {path}: defaultAction {profile.defaultAction!r} is no action")
