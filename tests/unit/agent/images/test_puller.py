"""The image puller: policies, sharing, bounds and back-off, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.images.backoff import PullBackoff
from agent.images.counts import ImageCounts, size_range
from agent.images.keyring import Credential
from agent.images.pull_policy import VerificationPolicy
from agent.images.pull_rate import PullRate
from agent.images.pull_records import PullRecords
from agent.images.puller import ImagePuller, ImageWaiting
from cri_client.errors import CriError, NotFound
from cri_client.types import AuthConfig, Image, ImageSpec, ImageStatusResponse, PodSandboxConfig

pytestmark = pytest.mark.looptime


class Store:
    """An image store that takes its time and keeps count."""

    def __init__(self) -> None:
        self.present: dict[str, str] = {}
        self.refusals: dict[str, CriError] = {}
        self.pulls: list[str] = []
        self.unseen: set[str] = set()
        self.size_bytes = 11 << 20
        self.looks = 0
        self.pulling = 0
        self.most_at_once = 0

    async def list_images(self) -> tuple[Image, ...]:
        return tuple(Image(id=found, repo_tags=(f"docker.io/library/{name}",)) for name, found in self.present.items())

    async def image_status(self, image: ImageSpec, verbose: bool = False) -> ImageStatusResponse:
        self.looks += 1
        await asyncio.sleep(0.01)
        if image.image in self.unseen:
            raise CriError("ImageStatus", "not now")
        found = self.present.get(image.image)
        return ImageStatusResponse(image=Image(id=found, size=self.size_bytes) if found else None)

    async def pull_image(
        self, image: ImageSpec, auth: AuthConfig | None = None, sandbox_config: PodSandboxConfig | None = None
    ) -> str:
        self.pulls.append(image.image)
        self.pulling += 1
        self.most_at_once = max(self.most_at_once, self.pulling)
        try:
            await asyncio.sleep(5)
        finally:
            self.pulling -= 1
        if image.image in self.refusals:
            raise self.refusals[image.image]
        self.present[image.image] = "sha256:" + image.image
        return self.present[image.image]


def now_s() -> float:
    return asyncio.get_running_loop().time()


def records(root: Path, policy: VerificationPolicy | None = None) -> PullRecords:
    return PullRecords(root, policy or VerificationPolicy(), now_s)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a directory of its own, and is in it."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def opened(
    max_parallel: int | None = 1, store: Store | None = None, counts: ImageCounts | None = None
) -> AsyncIterator[tuple[ImagePuller, Store]]:
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
            return group.create_task(work, name=name)

        store = store or Store()
        kept = records(Path())
        yield ImagePuller(store, spawn, kept, max_parallel=max_parallel, counts=counts, now=now_s), store


async def refused(puller: ImagePuller, image: str, policy: str = "IfNotPresent", pod: str = "u") -> ImageWaiting:
    with pytest.raises(ImageWaiting) as caught:
        await puller.pull_if_needed(image, policy, pod)
    return caught.value


async def test_absent_is_pulled_once_and_then_present() -> None:
    async with opened() as (puller, store):
        first = await puller.pull_if_needed("web", "IfNotPresent", "u")
        await asyncio.sleep(10)
        second = await puller.pull_if_needed("web:latest", "IfNotPresent", "u")
        assert first.image_ref == second.image_ref == "sha256:web:latest"
        assert (
            second.message == 'Container image "web:latest" already present on machine and can be accessed by the pod'
        )
        assert store.pulls == ["web:latest"]


async def test_always_pulls_what_is_present() -> None:
    async with opened() as (puller, store):
        store.present["web:latest"] = "sha256:old"
        await puller.pull_if_needed("web", "Always", "u")
        assert store.pulls == ["web:latest"]
        assert store.looks == 1  # at its size, when it was here


async def test_never_says_so_in_the_kubelets_words() -> None:
    async with opened() as (puller, store):
        waiting = await refused(puller, "web:1", "Never")
        assert waiting.reason == "ErrImageNeverPull"
        assert waiting.message == 'Container image "web:1" is not present with pull policy of Never'
        store.present["web:1"] = "sha256:1"
        assert (await puller.pull_if_needed("web:1", "Never", "u")).image_id == "sha256:1"
        assert store.pulls == []


async def test_a_bad_name_is_never_asked_for() -> None:
    async with opened() as (puller, store):
        waiting = await refused(puller, "Web:1")
        assert waiting.reason == "InvalidImageName"
        assert waiting.message.startswith(
            'Failed to apply default image tag "Web:1": couldn\'t parse image name "Web:1"'
        )
        assert store.looks == 0


async def test_present_images_do_not_wait_for_pulls() -> None:
    async with opened() as (puller, store):
        store.present["here:1"] = "sha256:h"
        slow = asyncio.gather(*(puller.pull_if_needed(f"far:{n}", "IfNotPresent", "u") for n in range(4)))
        await asyncio.sleep(1)
        began = now_s()
        await puller.pull_if_needed("here:1", "IfNotPresent", "v")
        assert now_s() - began < 1
        assert [pull.queued for pull in puller.progress()] == [False, True, True, True]
        await slow
        assert puller.progress() == ()


@pytest.mark.parametrize(("bound", "most"), [(1, 1), (2, 2), (None, 6)])
async def test_pulls_at_once_are_bounded(bound: int | None, most: int) -> None:
    async with opened(bound) as (puller, store):
        await asyncio.gather(*(puller.pull_if_needed(f"web:{n}", "Always", "u") for n in range(6)))
        assert store.most_at_once == most


async def test_the_same_image_is_pulled_once_for_all_who_wait() -> None:
    async with opened() as (puller, store):
        names = ["web", "web:latest", "web", "web:latest"]
        found = await asyncio.gather(*(puller.pull_if_needed(name, "Always", name) for name in names))
        assert {image.image_ref for image in found} == {"sha256:web:latest"}
        assert store.pulls == ["web:latest"]


async def test_who_leaves_does_not_stop_the_pull_of_the_others() -> None:
    async with opened() as (puller, store):
        async with asyncio.TaskGroup() as group:
            leaver = group.create_task(puller.pull_if_needed("web", "IfNotPresent", "u"))
            await asyncio.sleep(1)
            stayer = group.create_task(puller.pull_if_needed("web", "IfNotPresent", "v"))
            await asyncio.sleep(1)
            leaver.cancel()
        assert stayer.result().image_ref == "sha256:web:latest"
        assert store.pulls == ["web:latest"]


async def test_failure_then_back_off_doubling_to_five_minutes() -> None:
    async with opened() as (puller, store):
        store.refusals["web:1"] = NotFound("PullImage", "no such tag")
        failed = await refused(puller, "web:1")
        assert failed.reason == "ErrImagePull"
        held = await refused(puller, "web:1")
        assert failed.message == "rpc error: code = NotFound desc = no such tag"
        assert held.reason == "ImagePullBackOff"
        assert held.message == f'Back-off pulling image "web:1": ErrImagePull: {failed.message}'
        delays = [held.retry_at_s - now_s()]
        for _ in range(6):
            await asyncio.sleep(held.retry_at_s - now_s())
            failed = await refused(puller, "web:1")
            assert failed.reason == "ErrImagePull"
            assert failed.retry_at_s - now_s() < 10
            held = await refused(puller, "web:1")
            delays.append(held.retry_at_s - now_s())
        assert [round(delay) for delay in delays] == [10, 20, 40, 80, 160, 300, 300]


async def test_back_off_is_each_pods_own_and_ends_with_it() -> None:
    async with opened() as (puller, store):
        store.refusals["web:1"] = NotFound("PullImage", "no such tag")
        await refused(puller, "web:1", pod="u")
        assert (await refused(puller, "web:1", pod="v")).reason == "ErrImagePull"
        puller.forget("u")
        assert (await refused(puller, "web:1", pod="u")).reason == "ErrImagePull"


async def test_an_image_that_came_by_itself_ends_the_wait() -> None:
    async with opened() as (puller, store):
        store.refusals["web:1"] = NotFound("PullImage", "no such tag")
        await refused(puller, "web:1")
        store.present["web:1"] = "sha256:1"
        assert (await puller.pull_if_needed("web:1", "IfNotPresent", "u")).image_ref == "sha256:1"


async def test_many_starts_at_once_look_once_and_invalidate_looks_again() -> None:
    async with opened() as (puller, store):
        store.present["web:1"] = "sha256:1"
        await asyncio.gather(*(puller.pull_if_needed("web:1", "IfNotPresent", str(n)) for n in range(30)))
        assert store.looks == 1
        del store.present["web:1"]
        puller.invalidate("web:1")
        await puller.pull_if_needed("web:1", "IfNotPresent", "u")
        assert store.pulls == ["web:1"]


async def test_a_store_that_cannot_be_asked_is_said() -> None:
    class Away(Store):
        async def image_status(self, image: ImageSpec, verbose: bool = False) -> ImageStatusResponse:
            raise CriError("ImageStatus", "no socket")

    async with asyncio.TaskGroup() as group:
        kept = records(Path())
        puller = ImagePuller(Away(), lambda work, name: group.create_task(work, name=name), kept, now=now_s)
        waiting = await refused(puller, "web:1")
    assert waiting.reason == "ImageInspectError"
    assert waiting.message.startswith('Failed to inspect image "web:1"')


class NodeKeys:
    def __init__(self, *credentials: Credential) -> None:
        self._credentials = credentials

    async def credentials(self, image: str) -> tuple[Credential, ...]:
        return self._credentials


async def test_credentials_are_tried_in_turn_and_shared_only_with_those_who_show_the_same() -> None:
    shown: list[str] = []

    class Registry(Store):
        async def pull_image(
            self, image: ImageSpec, auth: AuthConfig | None = None, sandbox_config: PodSandboxConfig | None = None
        ) -> str:
            shown.append(auth.username if auth else "")
            await asyncio.sleep(1)
            if auth is None or auth.username != "node":
                raise CriError("PullImage", "unauthorized")
            return "sha256:x"

    def key(name: str) -> Credential:
        return Credential("r.io", AuthConfig(username=name, password="p"))

    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
            return group.create_task(work, name=name)

        kept, node = records(Path()), NodeKeys(key("node"))
        puller = ImagePuller(Registry(), spawn, kept, max_parallel=None, node_credentials=node, now=now_s)
        found = await puller.pull_if_needed("r.io/web", "Always", "a", [key("pod")])
        assert found.image_ref == "sha256:x"
        assert shown == ["pod", "node"]
        shown.clear()
        await asyncio.gather(
            puller.pull_if_needed("r.io/web", "Always", "a", [key("pod")]),
            puller.pull_if_needed("r.io/web", "Always", "b", [key("pod")]),
            puller.pull_if_needed("r.io/web", "Always", "c", [key("other")]),
        )
        assert sorted(shown) == ["node", "node", "other", "pod"]
        shown.clear()
        bare = ImagePuller(Registry(), spawn, kept, node_credentials=NodeKeys(), now=now_s)
        with pytest.raises(ImageWaiting):
            await bare.pull_if_needed("r.io/web", "Always", "a")
        assert shown == [""]


async def test_an_image_that_came_while_the_agent_was_killed_is_none_that_was_always_here() -> None:
    store = Store()
    store.present["here:1"] = "sha256:h"
    with contextlib.suppress(ExceptionGroup):
        async with opened(store=store) as (puller, _):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(puller.pull_if_needed("web:1", "IfNotPresent", "u"), 4)
            raise ChildProcessError("killed")
    store.present["web:1"] = "sha256:web:1"  # the runtime has it, and nobody lived to write that down
    store.pulls.clear()
    async with opened(store=store) as (puller, _):
        await puller.recover()
        assert (await puller.pull_if_needed("here:1", "IfNotPresent", "v")).image_ref == "sha256:h"
        assert store.pulls == []
        await puller.pull_if_needed("web:1", "IfNotPresent", "v")
        assert store.pulls == ["web:1"]


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        (
            "RegistryUnavailable: down",
            "RegistryUnavailable",
            "image pull failed for web:1 because the registry is unavailable: down",
        ),
        (
            "SignatureValidationFailed",
            "SignatureValidationFailed",
            "image pull failed for web:1 because the signature validation failed",
        ),
        ("other", "ErrImagePull", "other"),
    ],
)
async def test_two_failures_have_a_name_of_their_own(text: str, reason: str, message: str) -> None:
    async with opened() as (puller, store):
        store.refusals["web:1"] = CriError("PullImage", text)
        failed = await refused(puller, "web:1")
        assert (failed.reason, failed.message) == (reason, message)
        assert (await refused(puller, "web:1")).message == f'Back-off pulling image "web:1": {reason}: {message}'


async def test_a_disk_that_takes_no_intent_stops_the_pull() -> None:
    async with opened() as (puller, store):
        os.mknod("image_manager")  # no directory can be made there, as on a full disk
        waiting = await refused(puller, "web:1")
        assert waiting.reason == "ErrImagePull"
        assert 'Failed to record image pull intent for container image "web:1": ' in waiting.message
        assert store.pulls == []


async def test_a_mistake_of_ours_with_one_image_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(*_: object) -> None:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    async with opened() as (puller, _):
        with monkeypatch.context() as patched:
            patched.setattr(PullRecords, "succeeded", wrong)
            waiting = await refused(puller, "web:1")
            assert (waiting.reason, "UnicodeEncodeError" in waiting.message) == ("ErrImagePull", True)
        assert (await puller.pull_if_needed("web:2", "IfNotPresent", "u")).image_ref == "sha256:web:2"


def test_so_many_pulls_at_once_and_then_so_many_a_second() -> None:
    rate = PullRate(qps=2, burst=3)
    assert [rate.accept(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [rate.accept(now_s) for now_s in (100.4, 100.5, 100.6, 101.0, 90.0)] == [False, True, False, True, False]
    assert [rate.accept(1000.0) for _ in range(4)] == [True, True, True, False]
    assert all(PullRate().accept(0.0) for _ in range(1000))


async def test_a_pull_beyond_the_rate_fails_as_in_the_kubelet_and_is_tried_again() -> None:
    async with asyncio.TaskGroup() as group:
        puller = ImagePuller(
            Store(),
            lambda work, name: group.create_task(work, name=name),
            records(Path()),
            max_parallel=None,
            rate=PullRate(qps=1, burst=1),
            now=now_s,
        )
        await puller.pull_if_needed("web:1", "Always", "u")
        found = await asyncio.gather(
            *(puller.pull_if_needed(f"web:{number}", "Always", "u") for number in (2, 3)), return_exceptions=True
        )
        (failed,) = [one for one in found if isinstance(one, ImageWaiting)]
        assert (failed.reason, failed.message) == ("ErrImagePull", "pull QPS exceeded")
        await asyncio.sleep(11)
        await puller.pull_if_needed("web:3", "Always", "u")


def test_a_clock_that_is_set_back_makes_no_pull_wait_longer() -> None:
    backoff = PullBackoff()
    until_s = backoff.fail("u", "web", "refused", 5000.0)
    held = backoff.held("u", "web", 5000.0)
    assert held is not None
    assert held.until_s == until_s
    assert backoff.held("u", "web", 1400.0) is None


async def test_a_pull_is_told_with_its_wait_and_its_size_and_counted_by_both() -> None:
    counts = ImageCounts()
    async with opened(counts=counts) as (puller, store):
        store.unseen.add("web:3")
        names = ("web:1", "web:2", "web:3")
        first, second, third = await asyncio.gather(*(puller.pull_if_needed(name, "Always", "u") for name in names))
    assert first.message == (
        'Successfully pulled image "web:1" in 5.01s (5.01s including waiting). Image size: 11534336 bytes.'
    )
    assert second.message == (
        'Successfully pulled image "web:2" in 5.01s (10.02s including waiting). Image size: 11534336 bytes.'
    )
    assert third.message.endswith("Image size: 0 bytes.")
    found = {key: (tally.count, round(tally.total, 2)) for key, tally in counts.pulls.items()}
    assert found == {("10MB-100MB",): (2, 15.03), ("N/A",): (1, 15.03)}


async def test_what_is_here_already_and_what_never_came_is_no_pull() -> None:
    counts = ImageCounts()
    async with opened(counts=counts) as (puller, store):
        store.present["here:1"] = "sha256:1"
        store.refusals["web:1"] = NotFound("PullImage", "no such tag")
        await puller.pull_if_needed("here:1", "IfNotPresent", "u")
        await refused(puller, "web:1")
    assert list(counts.pulls.items()) == []


@pytest.mark.parametrize(
    ("size_bytes", "label"),
    [
        (0, "N/A"),
        (1, "0-10MB"),
        (10 << 20, "0-10MB"),
        ((10 << 20) + 1, "10MB-100MB"),
        (500 << 20, "100MB-500MB"),
        (1 << 30, "500MB-1GB"),
        (5 << 30, "1GB-5GB"),
        (60 << 30, "40GB-60GB"),
        ((100 << 30) + 1, "GT100GB"),
    ],
)
def test_sizes_have_the_kubelets_labels(size_bytes: int, label: str) -> None:
    assert size_range(size_bytes) == label
