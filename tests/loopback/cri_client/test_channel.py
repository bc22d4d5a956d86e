"""The real client against the fake behind a real socket: every method, errors, deadlines, loss and return."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from cri_client import types as cri
from cri_client.channel import MESSAGE_LIMIT_BYTES, Channel, check_endpoint, connect
from cri_client.convert import rpcs
from cri_client.errors import (
    CriError,
    DeadlineExceeded,
    EndpointError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from cri_client.fake import FakeRuntime, serve_fake
from cri_client.fake_server import snake_case
from cri_client.images import ImageClient
from cri_client.protocols import Images, Runtime
from cri_client.runtime import RuntimeClient
from tests.loopback.cri_client.pods import container_config, sandbox_config, started


def test_every_rpc_has_its_method_everywhere() -> None:
    for rpc in rpcs().values():
        client, protocol = {"RuntimeService": (RuntimeClient, Runtime), "ImageService": (ImageClient, Images)}[
            rpc.service
        ]
        for kind in (client, protocol, FakeRuntime):
            assert callable(getattr(kind, snake_case(rpc.name)))
        parameters = [
            [
                (p.name, p.default, p.kind)
                for p in inspect.signature(getattr(kind, snake_case(rpc.name))).parameters.values()
            ]
            for kind in (client, protocol, FakeRuntime)
        ]
        assert parameters[0] == parameters[1] == parameters[2], rpc.name


async def test_every_method_reaches_the_runtime(channel: Channel, fake: FakeRuntime) -> None:
    runtime, images = RuntimeClient(channel), ImageClient(channel)
    sandbox, container = await started(runtime)
    resources = cri.LinuxContainerResources(cpu_shares=100)
    assert (await runtime.version()).runtime_name == "fake"
    assert (await runtime.status(verbose=True)).status is not None
    assert (await runtime.pod_sandbox_status(sandbox)).status == fake.sandboxes[sandbox].status()
    assert (await runtime.list_pod_sandbox()) == (fake.sandboxes[sandbox].listed(),)
    assert (await runtime.container_status(container)).status == fake.containers[container].status()
    assert (await runtime.list_containers()) == (fake.containers[container].listed(),)
    await runtime.update_container_resources(container, resources)
    assert fake.containers[container].status().resources == cri.ContainerResources(linux=resources)
    await runtime.update_pod_sandbox_resources(sandbox, resources=resources)
    await runtime.reopen_container_log(container)
    assert (await runtime.exec_sync(container, ["true"], 5)).exit_code == 0
    assert (await runtime.exec(container, ["sh"], tty=True)).startswith("http://")
    assert (await runtime.attach(container)).startswith("http://")
    assert (await runtime.port_forward(sandbox, [80])).startswith("http://")
    stats = await runtime.container_stats(container)
    assert stats.attributes is not None
    assert stats.attributes.id == container
    assert len(await runtime.list_container_stats()) == 1
    assert (await runtime.pod_sandbox_stats(sandbox)).linux is not None
    assert len(await runtime.list_pod_sandbox_stats()) == 1
    await runtime.update_runtime_config(cri.RuntimeConfig(cri.NetworkConfig("10.0.0.0/24")))
    assert (await runtime.runtime_config()).linux == cri.LinuxRuntimeConfiguration(cri.CgroupDriver.CGROUPFS)
    assert await runtime.list_metric_descriptors() == ()
    assert await runtime.list_pod_sandbox_metrics() == ()
    with pytest.raises(Unimplemented):
        await runtime.checkpoint_container(container, "/nowhere", 1)
    await runtime.stop_container(container, 1)
    await runtime.remove_container(container)
    await runtime.stop_pod_sandbox(sandbox)
    await runtime.remove_pod_sandbox(sandbox)
    assert (fake.sandboxes, fake.containers) == ({}, {})

    fake.add_image("db:1", pullable_only=True)
    await images.pull_image(cri.ImageSpec("db:1"), cri.AuthConfig(username="u"), sandbox_config())
    assert await images.list_images(cri.ImageFilter(cri.ImageSpec("db:1"))) == (fake.find_image("db:1"),)
    assert (await images.image_status(cri.ImageSpec("db:1"))).image == fake.find_image("db:1")
    await images.remove_image(cri.ImageSpec("db:1"))
    assert (await images.image_status(cri.ImageSpec("db:1"))).image is None
    assert (await images.image_fs_info()).image_filesystems
    called = {call.method for call in fake.faults.calls} | {"get_container_events"}
    assert called == {snake_case(name) for name in rpcs()}


async def test_codes_arrive_as_classes(channel: Channel) -> None:
    with pytest.raises(NotFound) as caught:
        await RuntimeClient(channel).container_status("none")
    assert caught.value.method == "ContainerStatus"
    assert 'container "none"' in caught.value.message


async def test_a_value_that_does_not_fit_never_leaves(channel: Channel, fake: FakeRuntime) -> None:
    with pytest.raises(InvalidArgument, match=r"filter\.id: "):
        await RuntimeClient(channel).list_containers(cri.ContainerFilter(id="\ud800"))
    assert not fake.faults.calls


class EmptyAnswers(FakeRuntime):
    """A runtime that misbehaves."""

    async def pod_sandbox_status(self, pod_sandbox_id: str, verbose: bool = False) -> cri.PodSandboxStatusResponse:
        return cri.PodSandboxStatusResponse()


async def test_an_answer_without_its_field_is_an_error(tmp_path: Path) -> None:
    async with serve_fake(EmptyAnswers(), tmp_path / "e.sock") as endpoint, connect(endpoint) as channel:
        with pytest.raises(CriError, match="answer is empty"):
            await RuntimeClient(channel).pod_sandbox_status("x")


async def test_a_deadline_is_one_call_only(fake: FakeRuntime, channel: Channel) -> None:
    held = fake.faults.hold("run_pod_sandbox", after=True)
    async with connect(channel.endpoint, timeout_s=2) as hasty:
        with pytest.raises(DeadlineExceeded) as caught:
            await RuntimeClient(hasty).run_pod_sandbox(sandbox_config())
        assert caught.value.outcome_unknown
        held.release()
        assert len(await RuntimeClient(channel).list_pod_sandbox()) == 1
    assert [call.method for call in fake.faults.mutating_calls()] == ["run_pod_sandbox"]


async def test_stop_waits_for_its_grace_beyond_the_request_timeout(fake: FakeRuntime, channel: Channel) -> None:
    _, container = await started(fake)
    fake.faults.delay("stop_container", 0.3)
    async with connect(channel.endpoint, timeout_s=0.1) as hasty:
        await RuntimeClient(hasty).stop_container(container, 30)


async def test_a_cancelled_call_stays_a_cancellation(fake: FakeRuntime, channel: Channel) -> None:
    held = fake.faults.hold("list_containers")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await RuntimeClient(channel).list_containers()
    held.release()
    assert await RuntimeClient(channel).list_containers() == ()


async def test_large_answers_pass_and_too_large_ones_say_so(fake: FakeRuntime, channel: Channel) -> None:
    runtime = RuntimeClient(channel)
    for size_bytes, fits in ((MESSAGE_LIMIT_BYTES - 100_000, True), (MESSAGE_LIMIT_BYTES + 100_000, False)):
        fake.sandboxes.clear()
        config = cri.PodSandboxConfig(cri.PodSandboxMetadata("big"), annotations={"big": "x" * size_bytes})
        await fake.run_pod_sandbox(config)
        if fits:
            assert len(await runtime.list_pod_sandbox()) == 1
        else:
            with pytest.raises(ResourceExhausted):
                await runtime.list_pod_sandbox()


T = TypeVar("T")


async def eventually(attempt: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(30):
        while True:
            try:
                return await attempt()
            except Unavailable:
                await asyncio.sleep(0.02)


async def fails_until_the_socket_is_named(runtime: Runtime, socket: Path) -> None:
    """Every call is Unavailable. Those before the loss was noticed break with the old connection and say so; after
    that gRPC's own "failed to connect" is always explained.
    """
    async with asyncio.timeout(30):
        while True:
            with pytest.raises(Unavailable) as caught:
                await runtime.version()
            if caught.value.message.startswith(f"no socket at {socket}"):
                return
            assert not caught.value.message.startswith("failed to connect")


async def test_calls_fail_while_nobody_listens_and_the_same_channel_comes_back(
    fake: FakeRuntime, tmp_path: Path
) -> None:
    socket = tmp_path / "r.sock"
    async with connect(str(socket)) as channel:
        runtime = RuntimeClient(channel)
        with pytest.raises(Unavailable, match=f"no socket at {socket}"):
            await runtime.version()
        for _ in range(2):
            async with serve_fake(fake, socket):
                assert (await eventually(runtime.version)).runtime_name == "fake"
            await fails_until_the_socket_is_named(runtime, socket)


async def test_a_call_under_way_when_the_runtime_dies_is_unavailable(fake: FakeRuntime, tmp_path: Path) -> None:
    held = fake.faults.hold("run_pod_sandbox")
    async with AsyncExitStack() as stack, connect(str(tmp_path / "r.sock")) as channel:
        await stack.enter_async_context(serve_fake(fake, tmp_path / "r.sock"))
        async with asyncio.TaskGroup() as group:
            call = group.create_task(refused(RuntimeClient(channel)))
            await held.arrived.wait()
            await stack.aclose()
        assert call.result().outcome_unknown


async def refused(runtime: Runtime) -> CriError:
    with pytest.raises(CriError) as caught:
        await runtime.run_pod_sandbox(sandbox_config())
    return caught.value


@asynccontextmanager
async def serving(path: Path, *methods: str) -> AsyncIterator[Channel]:
    """A server that answers these full method names with nothing."""
    handlers: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}

    async def answer(request: bytes, context: object) -> bytes:
        return b""

    for method in methods:
        service, name = method.split("/")
        handlers.setdefault(service, {})[name] = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.aio.server()
    for service, found in handlers.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, found),))
    server.add_insecure_port(f"unix://{path}")
    await server.start()
    async with connect(str(path)) as channel:
        yield channel
    await server.stop(None)


async def test_check_endpoint_says_what_is_wrong(tmp_path: Path, channel: Channel) -> None:
    await check_endpoint(channel)
    async with connect(str(tmp_path / "none.sock")) as nobody:
        with pytest.raises(EndpointError, match="no socket at"):
            await check_endpoint(nobody)
    async with serving(tmp_path / "old.sock", "runtime.v1alpha2.RuntimeService/Version") as old:
        with pytest.raises(EndpointError, match="serves CRI v1alpha2 only"):
            await check_endpoint(old)
    async with serving(tmp_path / "other.sock", "some.Service/Version") as other:
        with pytest.raises(EndpointError, match="disabled_plugins"):
            await check_endpoint(other)


async def test_check_endpoint_does_not_wait_for_ever(tmp_path: Path, fake: FakeRuntime, channel: Channel) -> None:
    fake.faults.hold("version")
    with pytest.raises(EndpointError, match="DEADLINE_EXCEEDED"):
        await check_endpoint(channel, deadline_s=0.05)


async def test_container_config_is_carried_whole(channel: Channel, fake: FakeRuntime) -> None:
    runtime = RuntimeClient(channel)
    sandbox = await runtime.run_pod_sandbox(sandbox_config())
    config = container_config(command=("a", "b"))
    container = await runtime.create_container(sandbox, config, sandbox_config())
    assert fake.containers[container].config == config
    assert fake.sandboxes[sandbox].config == sandbox_config()
