"""The image half of the fake runtime: a store and a registry in memory.

Before this comes a test or the agent, after it nothing: images are names, ids and sizes. Satisfies `protocols.Images`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from cri_client import types as cri
from cri_client.errors import NotFound
from cri_client.fake_faults import Faults, faulty


class FakeImages:
    """ImageService in memory. `registry` holds what can be pulled, by name; `store` what is present, by id."""

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.faults = Faults()
        self.clock_ns = clock_ns
        self.store: dict[str, cri.Image] = {}
        self.registry: dict[str, cri.Image] = {}

    def add_image(self, name: str, *, size_bytes: int = 1024, pullable_only: bool = False) -> cri.Image:
        """Put an image into the store, or only into the registry; the image."""
        digest = hashlib.sha256(name.encode()).hexdigest()
        repository = name.rpartition(":")[0] or name
        image = cri.Image(
            id=f"sha256:{digest}",
            repo_tags=(name,),
            repo_digests=(f"{repository}@sha256:{digest}",),
            size=size_bytes,
            spec=cri.ImageSpec(name),
        )
        if pullable_only:
            self.registry[name] = image
        else:
            self.store[image.id] = image
        return image

    def find_image(self, reference: str) -> cri.Image | None:
        """Find a present image by name, digest or id."""
        for image in self.store.values():
            if reference in (image.id, image.id.removeprefix("sha256:"), *image.repo_tags, *image.repo_digests):
                return image
        return None

    @faulty
    async def list_images(self, filter: cri.ImageFilter | None = None) -> tuple[cri.Image, ...]:
        """Images of the store."""
        if filter is None or filter.image is None or not filter.image.image:
            return tuple(self.store.values())
        found = self.find_image(filter.image.image)
        return (found,) if found else ()

    @faulty
    async def image_status(self, image: cri.ImageSpec, verbose: bool = False) -> cri.ImageStatusResponse:
        """One image; `image` of the answer is None when the store has none."""
        return cri.ImageStatusResponse(self.find_image(image.image))

    @faulty
    async def pull_image(
        self,
        image: cri.ImageSpec,
        auth: cri.AuthConfig | None = None,
        sandbox_config: cri.PodSandboxConfig | None = None,
    ) -> str:
        """Copy an image of the registry into the store."""
        found = self.registry.get(image.image)
        if found is None:
            message = f'failed to pull and unpack image "{image.image}": failed to resolve reference: not found'
            raise NotFound("PullImage", message)
        self.store[found.id] = found
        return found.id

    @faulty
    async def remove_image(self, image: cri.ImageSpec) -> None:
        """Remove an image with all its names."""
        found = self.find_image(image.image)
        if found is not None:
            del self.store[found.id]

    @faulty
    async def image_fs_info(self) -> cri.ImageFsInfoResponse:
        """Use of one file system, as large as the images."""
        used = cri.UInt64Value(sum(image.size for image in self.store.values()))
        identifier = cri.FilesystemIdentifier("/fake/images")
        usage = cri.FilesystemUsage(self.clock_ns(), identifier, used, cri.UInt64Value(len(self.store)))
        return cri.ImageFsInfoResponse((usage,))
