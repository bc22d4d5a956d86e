"""The 5 methods of the CRI's ImageService over a channel. I/O.

Before this comes `agent.images`, after it `channel`. Satisfies `protocols.Images`. Each call is made once, with a
deadline: `runtimeRequestTimeout` (120 s), and for pulls PULL_DEADLINE_S, which only frees the caller from a runtime
that hangs: how long a pull may go without progress is the runtime's own setting (containerd:
image_pull_progress_timeout). Source: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

from cri_client import types as cri
from cri_client.channel import Channel

PULL_DEADLINE_S = 4 * 3600.0


class ImageClient:
    """ImageService on `channel`; the channel stays the caller's to close."""

    def __init__(self, channel: Channel) -> None:
        self._call = channel.call
        self._timeout_s = channel.timeout_s

    async def list_images(self, filter: cri.ImageFilter | None = None) -> tuple[cri.Image, ...]:
        """Images of the store."""
        request = cri.ListImagesRequest(filter)
        return (await self._call("ListImages", request, cri.ListImagesResponse, self._timeout_s)).images

    async def image_status(self, image: cri.ImageSpec, verbose: bool = False) -> cri.ImageStatusResponse:
        """One image; `image` of the answer is None when the store has none."""
        request = cri.ImageStatusRequest(image, verbose)
        return await self._call("ImageStatus", request, cri.ImageStatusResponse, self._timeout_s)

    async def pull_image(
        self,
        image: cri.ImageSpec,
        auth: cri.AuthConfig | None = None,
        sandbox_config: cri.PodSandboxConfig | None = None,
    ) -> str:
        """Pull an image; the reference to create containers with."""
        request = cri.PullImageRequest(image, auth, sandbox_config)
        return (await self._call("PullImage", request, cri.PullImageResponse, PULL_DEADLINE_S)).image_ref

    async def remove_image(self, image: cri.ImageSpec) -> None:
        """Remove an image with all its names."""
        await self._call("RemoveImage", cri.RemoveImageRequest(image), cri.RemoveImageResponse, self._timeout_s)

    async def image_fs_info(self) -> cri.ImageFsInfoResponse:
        """Use of the file systems that hold images and containers."""
        return await self._call("ImageFsInfo", cri.ImageFsInfoRequest(), cri.ImageFsInfoResponse, self._timeout_s)
