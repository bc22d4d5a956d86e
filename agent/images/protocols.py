"""What the puller needs of others, for fakes too.  Types only.

Before: `cri_client.images` and `node_credentials` are these.  Next: `puller` uses them.
"""

from __future__ import annotations

from typing import Protocol

from agent.images.keyring import Credential
from cri_client.types import AuthConfig, Image, ImageSpec, ImageStatusResponse, PodSandboxConfig


class ImageStore(Protocol):
    """The part of `cri_client.protocols.Images` that is used here."""

    async def list_images(self) -> tuple[Image, ...]:
        """All images of the store."""
        ...

    async def image_status(self, image: ImageSpec, verbose: bool = False) -> ImageStatusResponse:
        """Look an image up."""
        ...

    async def pull_image(
        self, image: ImageSpec, auth: AuthConfig | None = None, sandbox_config: PodSandboxConfig | None = None
    ) -> str:
        """Pull an image; its reference."""
        ...


class CredentialSource(Protocol):
    """What the node itself knows to show to registries (`agent.images.node_credentials`)."""

    async def credentials(self, image: str) -> tuple[Credential, ...]:
        """All of it that may fit an image."""
        ...
