"""A node's API as it is served, on a port that was free, with an API server and a runtime that are in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from lightkube.models import core_v1 as core
from lightkube.models.meta_v1 import ObjectMeta

from agent.assembly import Settings
from agent.config import load_config
from agent.container_spec.labels import POD_NAME, POD_NAMESPACE, POD_UID
from agent.pods.observe import ContainerDetail, ContainerObservation, PodObservation, SandboxObservation
from agent.server.board import StatusBoard
from agent.server.node_api.numbers import Numbers
from agent.server.node_api.reviews import ACCESS_REVIEWS, TOKEN_REVIEWS
from agent.server.node_api.server import NodeApi
from agent.server.node_api.targets import Worker
from cri_client.errors import NotFound, Unimplemented
from cri_client.types import (
    ContainerAttributes,
    ContainerMetadata,
    ContainerState,
    ContainerStats,
    CpuUsage,
    ExecSyncResponse,
    FilesystemIdentifier,
    FilesystemUsage,
    ImageFsInfoResponse,
    IoUsage,
    LinuxPodSandboxStats,
    MemoryUsage,
    NetworkInterfaceUsage,
    NetworkUsage,
    PodSandboxAttributes,
    PodSandboxMetadata,
    PodSandboxStats,
    ProcessUsage,
    PsiData,
    PsiStats,
    SwapUsage,
    UInt64Value,
)
from daemonkit.tasks import spawn
from kube_client.errors import UnreachableError
from lab.pki import Authority, Pair


@dataclass
class FakeReviewer:
    """`tokens` are users by token; `allowed` are (user, verb, subresource)."""

    tokens: dict[str, str] = field(default_factory=dict)
    allowed: set[tuple[str, str, str]] = field(default_factory=set)
    away: bool = False
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def send(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> bytes:
        assert (method, content_type) == ("POST", "application/json")
        spec = json.loads(body)["spec"]
        self.asked.append((path, spec))
        if self.away:
            raise UnreachableError("cannot reach it: connection refused")
        if path == TOKEN_REVIEWS:
            user = self.tokens.get(spec["token"])
            status = {"authenticated": user is not None, **({"user": {"username": user}} if user else {})}
        else:
            assert path == ACCESS_REVIEWS
            one = spec["resourceAttributes"]
            assert (one["resource"], one["name"], one["version"]) == ("nodes", "node-1", "v1")
            status = {"allowed": (spec["user"], one["verb"], one["subresource"]) in self.allowed}
        return json.dumps({"status": status}).encode()


@dataclass
class Memory:
    full_name: str
    status: core.PodStatus | None


@dataclass
class Wish:
    pod: core.Pod | None


@dataclass
class FakeWorker:
    uid: str
    seen: PodObservation | None
    memory: Memory
    wish: Wish


class FakeStreamServer:
    """The runtime's: `answer` is what it says to an upgrade; then it `ends`, or gives back each byte in upper case."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
        self.ends = False
        self.heads: list[bytes] = []
        self.open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                while self.answer and not self.ends and (data := await reader.read(65536)):
                    writer.write(data.upper())
                    await writer.drain()
        finally:
            self.open -= 1
            writer.close()


class FakeStreams:
    """What of a runtime the API uses."""

    def __init__(self, server: FakeStreamServer) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._server = server
        self.gone = False
        self.old = False
        self.checkpoint_fails: Exception | None = None
        self.checkpoint_waits: asyncio.Event | None = None
        self.checkpoint_went_on = asyncio.Event()

    async def exec(self, container_id: str, cmd: Any, **flags: bool) -> str:
        return self._url("exec", container_id, tuple(cmd), tuple(sorted(name for name in flags if flags[name])))

    async def attach(self, container_id: str, **flags: bool) -> str:
        return self._url("attach", container_id, tuple(sorted(name for name in flags if flags[name])))

    async def port_forward(self, pod_sandbox_id: str, port: Any = ()) -> str:
        return self._url("port_forward", pod_sandbox_id, tuple(port))

    async def exec_sync(self, container_id: str, cmd: Any, timeout_s: int = 0) -> ExecSyncResponse:
        self._url("exec_sync", container_id, tuple(cmd))
        return ExecSyncResponse(b"out", b"err", 1 if cmd[0] == "false" else 0)

    async def checkpoint_container(self, container_id: str, location: str, timeout_s: int = 0) -> None:
        self.calls.append(("checkpoint", container_id, location, timeout_s))
        try:
            await asyncio.to_thread(Path(location).touch)
            if self.checkpoint_waits is not None:
                await self.checkpoint_waits.wait()
        except asyncio.CancelledError:
            loop = asyncio.get_running_loop()
            threading.Timer(0.1, self._go_on, (loop, location)).start()
            raise
        if self.checkpoint_fails is not None:
            raise self.checkpoint_fails

    def _go_on(self, loop: asyncio.AbstractEventLoop, location: str) -> None:
        """As containerd may, although nobody waits for it any more."""
        Path(location).touch()
        loop.call_soon_threadsafe(self.checkpoint_went_on.set)

    async def image_fs_info(self) -> ImageFsInfoResponse:
        here = FilesystemUsage(3_000_000_000, FilesystemIdentifier("/"), UInt64Value(1234), UInt64Value(5))
        return ImageFsInfoResponse((here,))

    async def list_pod_sandbox_stats(self) -> tuple[PodSandboxStats, ...]:
        if self.old:
            raise Unimplemented("ListPodSandboxStats", "unknown method")
        names = PodSandboxMetadata("web", "uid-1", "default", 0)
        cpu, memory = (
            CpuUsage(2_000_000_000, UInt64Value(3_000_000_000), UInt64Value(5)),
            MemoryUsage(0, UInt64Value(99)),
        )
        net = NetworkUsage(2_000_000_000, NetworkInterfaceUsage("eth0", UInt64Value(11), None, UInt64Value(12)))
        linux = LinuxPodSandboxStats(cpu, memory, net, ProcessUsage(0, UInt64Value(4)), (self._stats(), _ended_run()))
        return (PodSandboxStats(PodSandboxAttributes("s1", names), linux),)

    async def list_container_stats(self) -> tuple[ContainerStats, ...]:
        return (self._stats(), _ended_run())

    @staticmethod
    def _stats() -> ContainerStats:
        labels = {POD_NAME: "web", POD_NAMESPACE: "default", POD_UID: "uid-1"}
        attributes = ContainerAttributes("c1", ContainerMetadata("main", 1), labels)
        cpu = CpuUsage(2_000_000_000, UInt64Value(1_500_000_000))
        memory = MemoryUsage(0, UInt64Value(77), rss_bytes=UInt64Value(7))
        layer = FilesystemUsage(2_000_000_000, FilesystemIdentifier("/"), UInt64Value(8192), UInt64Value(3))
        swap = SwapUsage(2_000_000_000, UInt64Value(40), UInt64Value(2))
        psi = PsiStats(PsiData(1, 0.1, 0.2, 0.3), PsiData(2_000_000, 0.4, 0.5, 0.6))
        return ContainerStats(attributes, cpu, memory, layer, swap, IoUsage(2_000_000_000, psi))

    def _url(self, *call: Any) -> str:
        self.calls.append(call)
        if self.gone:
            raise NotFound("Exec", "no such container")
        return f"http://127.0.0.1:{self._server.port}/token/x"


def _ended_run() -> ContainerStats:
    labels = {POD_NAME: "web", POD_NAMESPACE: "default", POD_UID: "uid-1"}
    return ContainerStats(ContainerAttributes("c0", ContainerMetadata("main", 0), labels))


def worker(name: str = "web", *, running: bool = True) -> FakeWorker:
    state = ContainerState.CONTAINER_RUNNING if running else ContainerState.CONTAINER_EXITED
    runs = tuple(
        ContainerObservation(
            f"c{attempt}", "main", attempt, "s1", one, 1.0, "", "busybox", ContainerDetail(started_at_s=1.5)
        )
        for attempt, one in ((1, state), (0, ContainerState.CONTAINER_EXITED))
    )
    seen = PodObservation("uid-1", "default", name, (SandboxObservation("s1", 0, True, 5.0),), {"main": runs})
    pod = core.Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid="uid-1"),
        spec=core.PodSpec(
            containers=[core.Container(name="main"), core.Container(name="waits")],
            volumes=[
                core.Volume(name="disk", emptyDir=core.EmptyDirVolumeSource()),
                core.Volume(name="memory", emptyDir=core.EmptyDirVolumeSource(medium="Memory")),
                core.Volume(name="host", hostPath=core.HostPathVolumeSource(path="/")),
            ],
        ),
    )
    ended = core.ContainerStateTerminated(exitCode=3, containerID="containerd://c0")
    now = (
        core.ContainerState(running=core.ContainerStateRunning())
        if running
        else core.ContainerState(terminated=core.ContainerStateTerminated(exitCode=0, containerID="containerd://c1"))
    )
    statuses = [
        core.ContainerStatus(
            name="main", containerID="containerd://c1", image="", imageID="", ready=True, restartCount=1, state=now,
            lastState=core.ContainerState(terminated=ended),
        ),
        core.ContainerStatus(
            name="waits", image="", imageID="", ready=False, restartCount=0,
            state=core.ContainerState(waiting=core.ContainerStateWaiting(reason="ErrImagePull")),
        ),
    ]  # fmt: skip
    return FakeWorker("uid-1", seen, Memory(f"default/{name}", core.PodStatus(containerStatuses=statuses)), Wish(pod))


@dataclass
class ServedApi:
    api: NodeApi
    reviewer: FakeReviewer
    runtime: FakeStreams
    stream_server: FakeStreamServer
    workers: dict[str, Worker]
    authority: Authority
    logs: Path
    board: StatusBoard

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.api.port}"

    def tls(self, pair: Pair | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        return context

    def session(self, token: str = "", pair: Pair | None = None) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(ssl=self.tls(pair))
        return aiohttp.ClientSession(self.url, headers=headers, connector=connector)

    async def raw(self, token: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        """A connection, and the header that shows the token."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.api.port, ssl=self.tls())
        return reader, writer, f"Host: x\r\nAuthorization: Bearer {token}\r\n".encode()

    async def ask_raw(self, path: str) -> tuple[int, str]:
        """The administrator's GET of the path as it stands, which no client has made another of: status and body."""
        reader, writer, headers = await self.raw(ADMIN)
        writer.write(f"GET {path} HTTP/1.0\r\n".encode() + headers + b"\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()


ADMIN = "admin-token"


@contextlib.asynccontextmanager
async def served(
    tmp_path: Path, *flags: str, numbers: Numbers | None = None, **fields: object
) -> AsyncIterator[ServedApi]:
    """The user of the token ADMIN may do everything; `fields` are the KubeletConfiguration's."""
    authority = Authority(tmp_path / "pki")
    pair = authority.issue("node-1", addresses=("127.0.0.1",))
    logs = tmp_path / "logs"
    kind = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration"}
    file = tmp_path / "agent.yaml"
    file.write_text(json.dumps({**kind, **fields}))
    config = load_config(
        [
            f"--config={file}", "--hostname-override=node-1", f"--kubeconfig={tmp_path / 'none'}",
            f"--client-ca-file={authority.certificate}",
            f"--tls-cert-file={pair.certificate}", f"--tls-private-key-file={pair.key}", "--address=127.0.0.1", *flags,
        ]
    )  # fmt: skip
    free = replace(config.cluster.server, port=0)
    config = replace(config, cluster=replace(config.cluster, server=free), pod_logs_dir=logs)
    reviewer = FakeReviewer({ADMIN: "admin"})
    every = ("proxy", "metrics", "stats", "log", "pods", "healthz", "configz", "checkpoint", "statusz")
    reviewer.allowed = {("admin", verb, one) for verb in ("get", "create", "update") for one in every}
    stream_server, board = FakeStreamServer(), StatusBoard()
    runtime = FakeStreams(stream_server)
    workers: dict[str, Worker] = {"uid-1": worker()}
    listening = asyncio.Event()
    node: Any = None
    used: Any = runtime
    api = NodeApi(
        Settings(config, node), reviewer, used, used, lambda: workers, board, numbers or Numbers(), listening.set
    )
    streams = await asyncio.start_server(stream_server.serve, "127.0.0.1", 0)
    stream_server.port = streams.sockets[0].getsockname()[1]
    async with streams, asyncio.TaskGroup() as group:
        task = spawn(group, api.run(), name="api")
        while not api.port:  # noqa: ASYNC110 - it tells only of failures
            await asyncio.sleep(0.005)
        yield ServedApi(api, reviewer, runtime, stream_server, workers, authority, logs, board)
        task.cancel()
