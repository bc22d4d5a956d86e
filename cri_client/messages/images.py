"""Images and their file systems. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.common import Int64Value, UInt64Value


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image by name, digest or id; annotations pass through to the runtime."""

    image: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    user_specified_image: str = ""
    runtime_handler: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the store; size in bytes; uid or username is who it runs as."""

    id: str = ""
    repo_tags: tuple[str, ...] = ()
    repo_digests: tuple[str, ...] = ()
    size: int = 0
    uid: Int64Value | None = None
    username: str = ""
    spec: ImageSpec | None = None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Restricts a list of images to one."""

    image: ImageSpec | None = None


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Registry credentials; never to be logged, so no `repr` shows them."""

    username: str = ""
    password: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)
    server_address: str = ""
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class FilesystemIdentifier:
    """Mount point of a file system."""

    mountpoint: str = ""


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """Use of a file system; timestamp in Unix nanoseconds."""

    timestamp: int = 0
    fs_id: FilesystemIdentifier | None = None
    used_bytes: UInt64Value | None = None
    inodes_used: UInt64Value | None = None
