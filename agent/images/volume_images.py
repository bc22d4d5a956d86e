"""The images that a container mounts as volumes: brought to the node before the container is created.

Before: pods/execute.  Next: container_spec/mounts.py names them to the runtime, which mounts them.  Effects: those of
the puller, one image after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from lightkube.models import core_v1

from agent.images.puller import PulledImage


async def pull_volume_images(
    pod: core_v1.Pod, container: core_v1.Container, pull: Callable[[str, str], Awaitable[PulledImage]]
) -> dict[str, str]:
    """Volume name -> reference of its image, for the image volumes that the container mounts.

    `pull(image, policy)` is the puller's.  Raises what it raises.
    """
    mounted = {mount.name for mount in container.volumeMounts or []}
    found: dict[str, str] = {}
    for volume in (pod.spec.volumes if pod.spec is not None else None) or []:
        if volume.image is not None and volume.name in mounted:
            policy = volume.image.pullPolicy or "IfNotPresent"
            found[volume.name] = (await pull(volume.image.reference or "", policy)).image_ref
    return found
