"""Requests and responses of the ImageService. Pure; part of `cri_client.types`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cri_client.messages.images import AuthConfig, FilesystemUsage, Image, ImageFilter, ImageSpec
from cri_client.messages.pods import PodSandboxConfig


@dataclass(frozen=True, slots=True)
class ListImagesRequest:
    """Arguments of ListImages."""

    filter: ImageFilter | None = None


@dataclass(frozen=True, slots=True)
class ListImagesResponse:
    """Answer of ListImages."""

    images: tuple[Image, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageStatusRequest:
    """Arguments of ImageStatus."""

    image: ImageSpec | None = None
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class ImageStatusResponse:
    """image is None when the store has no such image."""

    image: Image | None = None
    info: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PullImageRequest:
    """Arguments of PullImage."""

    image: ImageSpec | None = None
    auth: AuthConfig | None = None
    sandbox_config: PodSandboxConfig | None = None


@dataclass(frozen=True, slots=True)
class PullImageResponse:
    """image_ref is the id or digest reference to create containers with."""

    image_ref: str = ""


@dataclass(frozen=True, slots=True)
class RemoveImageRequest:
    """Arguments of RemoveImage."""

    image: ImageSpec | None = None


@dataclass(frozen=True, slots=True)
class RemoveImageResponse:
    """Answer of RemoveImage."""


@dataclass(frozen=True, slots=True)
class ImageFsInfoRequest:
    """Arguments of ImageFsInfo."""


@dataclass(frozen=True, slots=True)
class ImageFsInfoResponse:
    """Answer of ImageFsInfo."""

    image_filesystems: tuple[FilesystemUsage, ...] = ()
    container_filesystems: tuple[FilesystemUsage, ...] = ()
