"""Brings the image of a container to the node, by policy, with back-off, and each image only once at a time.

Before: pods/execute wants to create a container.  Next: the image reference for its configuration.  Effects: calls of
the CRI's ImageService.  Images that are present never wait for those that are pulled; who waits for the same image
shares one pull; and the pull goes on when one of those waiting leaves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

from agent.images.backoff import PullBackoff
from agent.images.counts import ImageCounts, size_range
from agent.images.keyring import Credential, matching
from agent.images.names import with_default_tag
from agent.images.protocols import CredentialSource, ImageStore
from agent.images.pull_failure import pull_failure
from agent.images.pull_rate import PullRate
from agent.images.pull_records import PullRecords
from agent.images.shared_work import SharedWork, Spawn
from cri_client.errors import CriError
from cri_client.types import AuthConfig, ImageSpec
from daemonkit.duration import format_duration

_FRESH_S = 1.0
_SAID_S = 3.0  # how long a failure is shown as such; then, until the next attempt, as a back-off
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PulledImage:
    """An image on this node: `image_ref` to create containers with, `message` the kubelet's event text."""

    image_ref: str
    image_id: str
    message: str = ""


class ImageWaiting(Exception):  # noqa: N818 - a state that the pod shows, not a fault of the program
    """The image is not here yet.

    `reason` and `message` are those of the container's waiting state; `retry_at_s` (Unix seconds) is when another call
    can do more than say so again.
    """

    def __init__(self, reason: str, message: str, retry_at_s: float) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_at_s = retry_at_s


@dataclass(frozen=True)
class PullProgress:
    """A pull under way: `queued` until it has one of the places, each since `since_s` (Unix seconds)."""

    image: str
    queued: bool
    since_s: float


class _Pulled(NamedTuple):
    """`size_bytes` is 0 where the runtime does not say; `took_s` without what it waited for a place."""

    image_ref: str
    size_bytes: int
    took_s: float


class ImagePuller:
    """All pulls of the node.

    `records` are kept of each, `counts` say how long they took.  `max_parallel`: how many pulls at once, None for no
    bound, 1 for serializeImagePulls.  `rate` is how many may begin in a second.  `spawn(coroutine, name)` starts a task
    that somebody owns.
    """

    def __init__(
        self,
        images: ImageStore,
        spawn: Spawn,
        records: PullRecords,
        *,
        max_parallel: int | None = 1,
        rate: PullRate | None = None,
        node_credentials: CredentialSource | None = None,
        counts: ImageCounts | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._images = images
        self._records = records
        self._now = now
        self._rate = rate or PullRate()
        self._places: AbstractAsyncContextManager[object] = (
            nullcontext() if max_parallel is None else asyncio.Semaphore(max_parallel)
        )
        self._node_credentials = node_credentials
        self._counts = counts or ImageCounts()
        self._pulls = SharedWork[tuple[str, tuple[AuthConfig, ...]], _Pulled](spawn)
        self._looks = SharedWork[str, str](spawn)
        self._progress: dict[str, PullProgress] = {}
        self._present: dict[str, tuple[str, float]] = {}
        self._backoff = PullBackoff()

    async def pull_if_needed(
        self,
        image: str,
        policy: str,
        pod_key: str,
        pull_secrets: Iterable[Credential] = (),
        begun: Callable[[], None] = lambda: None,
    ) -> PulledImage:
        """The image for a container of the pod `pod_key` (its UID), pulled if `policy` asks for it.

        `pull_secrets` are the pod's credentials, tried before the node's; a pull is shared only by those who show the
        same.  `policy` is Always, IfNotPresent or Never; `begun` is called when it has to be pulled.  Raises
        ImageWaiting with reason InvalidImageName, ErrImageNeverPull, ImageInspectError, ErrImagePull or
        ImagePullBackOff.
        """
        try:
            name = with_default_tag(image)
        except ValueError as error:
            text = f'Failed to apply default image tag "{image}": {error}'
            raise ImageWaiting("InvalidImageName", text, self._now() + self._backoff.max_s) from error
        own = matching(pull_secrets, name)
        if policy != "Always":
            found = await self._look(image, name)
            if found and not await self._records.must_pull(image, found, own):
                text = f'Container image "{image}" already present on machine and can be accessed by the pod'
                return PulledImage(found, found, text)
            if policy == "Never":  # nor is it told that there is an image which the pod may not use
                text = f'Container image "{image}" is not present with pull policy of Never'
                raise ImageWaiting("ErrImageNeverPull", text, self._now() + self._backoff.initial_s)
        return await self._pull_unless_held(image, name, pod_key, own, begun)

    async def recover(self) -> None:
        """After a start, once: what an earlier agent was pulling may be here now."""
        if self._records.empty:
            return
        try:
            images = await self._images.list_images()
        except CriError as error:
            _log.warning("cannot list the images: %s; going on with the records of pulls as they are", error)
            return
        await self._records.recover(images)

    def invalidate(self, image: str) -> None:
        """Forget that an image is present, after the runtime said NotFound for it."""
        try:
            self._present.pop(with_default_tag(image), None)
        except ValueError:
            return

    def forget(self, pod_key: str) -> None:
        """Drop the back-off of a pod that is gone."""
        self._backoff.forget(pod_key)

    def progress(self) -> tuple[PullProgress, ...]:
        """The pulls under way, in the order they were asked for."""
        return tuple(self._progress.values())

    async def _look(self, image: str, name: str) -> str:
        """Reference of a present image or "". Answers of the last second, and looks under way, are shared."""
        found, seen_s = self._present.get(name, ("", 0.0))
        if found and 0 <= self._now() - seen_s < _FRESH_S:
            return found
        try:
            return await self._looks.join(name, lambda: self._inspect(name))
        except CriError as error:
            text = f'Failed to inspect image "{image}": {error}'
            raise ImageWaiting("ImageInspectError", text, self._now() + 1.0) from error

    async def _inspect(self, name: str) -> str:
        answer = await self._images.image_status(ImageSpec(image=name))
        found = answer.image.id if answer.image is not None else ""
        if found:
            self._remember(name, found)
        return found

    def _remember(self, name: str, found: str) -> None:
        now_s = self._now()
        self._present = {key: known for key, known in self._present.items() if now_s - known[1] < _FRESH_S}
        self._present[name] = (found, now_s)

    async def _pull_unless_held(
        self, image: str, name: str, pod_key: str, own: tuple[Credential, ...], begun: Callable[[], None]
    ) -> PulledImage:
        held = self._backoff.held(pod_key, image, self._now())
        if held is not None:
            text = f'Back-off pulling image "{image}": {held.cause}'
            raise ImageWaiting("ImagePullBackOff", text, held.until_s)
        began_s = self._now()
        begun()
        try:
            key = name, tuple(one.auth for one in own)
            found = await self._pulls.join(key, lambda: self._pull(image, name, own))
        except CriError as error:
            reason, text = pull_failure(image, error)
            until_s = self._backoff.fail(pod_key, image, f"{reason}: {text}", self._now())
            raise ImageWaiting(reason, text, min(until_s, self._now() + _SAID_S)) from error
        waited_s = self._now() - began_s
        self._counts.pulls.add(waited_s, size_range(found.size_bytes))
        text = (
            f'Successfully pulled image "{image}" in {_to_the_millisecond(found.took_s)} '
            f"({_to_the_millisecond(waited_s)} including waiting). Image size: {found.size_bytes} bytes."
        )
        return PulledImage(found.image_ref, found.image_ref, text)

    async def _pull(self, image: str, name: str, shown: tuple[Credential, ...]) -> _Pulled:
        self._progress[name] = PullProgress(name, queued=True, since_s=self._now())
        try:
            if self._node_credentials is not None:
                shown += matching(await self._node_credentials.credentials(name), name)
            async with self._places:
                begun_s = self._now()
                self._progress[name] = PullProgress(name, queued=False, since_s=begun_s)
                found = await self._pull_on_record(image, name, shown)
                size_bytes = await self._size(name)
                took_s = self._now() - begun_s
        finally:
            self._progress.pop(name, None)
        self._remember(name, found)
        return _Pulled(found, size_bytes, took_s)

    async def _size(self, name: str) -> int:
        try:
            image = (await self._images.image_status(ImageSpec(image=name))).image
        except CriError:
            return 0
        return image.size if image is not None else 0

    async def _pull_on_record(self, image: str, name: str, shown: tuple[Credential, ...]) -> str:
        try:
            await self._records.begin(image)
        except OSError as error:
            text = f'Failed to record image pull intent for container image "{image}": {error.strerror or error}'
            raise CriError("PullImage", text) from error
        try:
            found, good = await self._try_each(name, shown)
        except CriError:
            await self._records.failed(image)
            raise
        await self._records.succeeded(image, found, good)
        return found

    async def _try_each(self, name: str, shown: tuple[Credential, ...]) -> tuple[str, Credential | None]:
        """With each of the credentials in turn, or with none where there are none; and what was good."""
        if not shown:
            return await self._pull_with(name, None), None
        errors: list[CriError] = []
        for one in dict.fromkeys(shown):
            try:
                return await self._pull_with(name, one.auth), one
            except CriError as error:
                errors.append(error)
        if len({error.message for error in errors}) > 1:
            text = ", ".join(dict.fromkeys(error.message for error in errors))
            raise CriError("PullImage", f"[{text}]", errors[-1].code)
        raise errors[-1]

    async def _pull_with(self, name: str, auth: AuthConfig | None) -> str:
        if not self._rate.accept(self._now()):
            raise CriError("PullImage", "pull QPS exceeded")
        return await self._images.pull_image(ImageSpec(image=name), auth)


def _to_the_millisecond(seconds: float) -> str:
    return format_duration(round(seconds * 1e9) // 1_000_000 / 1000)
