"""The runtime itself, its images, commands run in containers and logs, the same on every runtime."""

from pathlib import Path

import pytest

from cri_client import types as cri
from cri_client.channel import check_endpoint
from cri_client.errors import CriError, DeadlineExceeded, NotFound, Unimplemented
from cri_client.logs import LogLine, LogParser
from lab.containerd_config import PAUSE_IMAGE
from lab.images import WEB_IMAGE
from tests.contract.conftest import Target
from tests.contract.programs import EXEC_SLOW, EXEC_TALKS, POLITE, SUCCEEDS, TALKS


async def test_version_and_conditions(target: Target) -> None:
    await check_endpoint(target.channel)
    version = await target.runtime.version()
    assert (version.version, version.runtime_api_version) == ("0.1.0", "v1")
    assert version.runtime_name in ("containerd", "fake")
    status = (await target.runtime.status()).status
    assert status is not None
    assert {condition.type: condition.status for condition in status.conditions}["RuntimeReady"] is True


async def test_images_that_are_there(target: Target) -> None:
    listed = {tag: image for image in await target.images.list_images() for tag in image.repo_tags}
    assert {WEB_IMAGE, PAUSE_IMAGE} <= set(listed)
    image = (await target.images.image_status(cri.ImageSpec(WEB_IMAGE))).image
    assert image is not None
    assert (image.id, image.size) == (listed[WEB_IMAGE].id, listed[WEB_IMAGE].size)
    assert (await target.images.image_status(cri.ImageSpec(image.id))).image == image
    # containerd 1.x does not look at the filter.
    filtered = await target.images.list_images(cri.ImageFilter(cri.ImageSpec(WEB_IMAGE)))
    assert image.id in [found.id for found in filtered]
    usage = await target.images.image_fs_info()
    assert usage.image_filesystems[0].fs_id is not None


async def test_images_that_are_not_there(target: Target) -> None:
    absent = cri.ImageSpec("longshore.test/none:1")
    assert (await target.images.image_status(absent)).image is None
    await target.images.remove_image(absent)


async def test_a_pull_that_cannot_succeed_says_which_image(target: Target) -> None:
    # Port 1 of loopback: nobody listens there.
    with pytest.raises(CriError, match=r"127\.0\.0\.1:1/none:1"):
        await target.images.pull_image(cri.ImageSpec("127.0.0.1:1/none:1"))


async def test_commands_and_their_exit_codes(target: Target) -> None:
    container = await target.start(await target.run_sandbox(), POLITE)
    assert await target.runtime.exec_sync(container, EXEC_TALKS, 30) == cri.ExecSyncResponse(b"out\n", b"err\n", 7)
    assert (await target.runtime.exec_sync(container, ("/bin/true",))).exit_code == 0


async def test_a_command_that_takes_too_long(target: Target) -> None:
    container = await target.start(await target.run_sandbox(), POLITE)
    with pytest.raises(DeadlineExceeded):
        await target.runtime.exec_sync(container, EXEC_SLOW, 1)
    assert (await target.runtime.exec_sync(container, ("/bin/true",))).exit_code == 0


async def test_commands_need_a_running_container(target: Target) -> None:
    sandbox = await target.run_sandbox()
    created, ended = await target.create(sandbox, POLITE, "a"), await target.start(sandbox, SUCCEEDS, "b")
    await target.ended(ended)
    for container, state in ((created, "CREATED"), (ended, "EXITED")):
        with pytest.raises(CriError, match=f"CONTAINER_{state} state") as caught:
            await target.runtime.exec_sync(container, ("/bin/true",), 5)
        assert not isinstance(caught.value, NotFound)
        with pytest.raises(CriError, match="not running"):
            await target.runtime.reopen_container_log(container)


async def test_streaming_urls(target: Target) -> None:
    sandbox = await target.run_sandbox()
    container = await target.start(sandbox, POLITE)
    assert "/exec/" in await target.runtime.exec(container, ("/bin/sh",), tty=True, stdin=True)
    assert "/attach/" in await target.runtime.attach(container)
    assert "/portforward/" in await target.runtime.port_forward(sandbox, (80,))


async def test_the_log_is_where_it_was_asked_for_and_can_be_parsed(target: Target) -> None:
    container = await target.start(await target.run_sandbox(), TALKS)
    status = await target.ended(container)
    path = Path(target.sandbox_config().log_directory) / "main" / "0.log"
    assert status.log_path == str(path)
    parser = LogParser(join_partials=True)
    lines = [*parser.feed(path.read_bytes()), *parser.close()]
    assert parser.garbage == 0
    assert all(isinstance(line, LogLine) for line in lines)
    by_stream = [(line.stream, line.content) for line in lines if isinstance(line, LogLine)]
    assert sorted(by_stream) == [("stderr", b"two"), ("stdout", b"one"), ("stdout", b"three")]
    assert all(status.created_at <= line.time_ns for line in lines if isinstance(line, LogLine))


async def test_a_rotated_log_is_opened_anew(target: Target) -> None:
    container = await target.start(await target.run_sandbox(), POLITE)
    path = Path((await target.status(container)).log_path)
    if target.fake is None:
        path.rename(path.with_suffix(".1"))  # noqa: ASYNC240 - a test may wait for its disk
    await target.runtime.reopen_container_log(container)
    if target.fake is None:
        assert path.exists()  # noqa: ASYNC240 - a test may wait for its disk


async def test_the_cgroup_driver_where_the_runtime_tells_it(target: Target) -> None:
    if (0, 0) < target.world.version < (2, 0):
        with pytest.raises(Unimplemented):
            await target.runtime.runtime_config()
    else:
        answer = await target.runtime.runtime_config()
        assert answer.linux == cri.LinuxRuntimeConfiguration(cri.CgroupDriver.CGROUPFS)
