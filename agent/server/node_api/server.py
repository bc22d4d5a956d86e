"""The node's HTTPS API: who asks, whether he may, and which verb answers.  I/O: serves.

Before: agent/cluster/side, on a node that has joined a cluster; a node that stands alone imports none of this.  Next:
one module for each verb.  First it is found out who asks (401), then whether the path is one (400), then whether he may
(403), only then whether it is there (404).  No answer is a redirect.  Source: kubelet server and its authentication.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import HttpVersion10, HttpVersion11, web

from agent.assembly import Settings
from agent.cluster.certificate_files import CertificateError
from agent.feature_gates import CHECKPOINT, FLAGZ, STATUSZ
from agent.server.board import StatusBoard
from agent.server.node_api.caller import Caller, bearer_token, caller_of_certificate
from agent.server.node_api.checkpoint import Checkpoints
from agent.server.node_api.container_logs import ContainerLogs
from agent.server.node_api.itself import Itself
from agent.server.node_api.listener import Connection, Listener, listen
from agent.server.node_api.numbers import Numbers
from agent.server.node_api.paths import PathError, need_of, split_path
from agent.server.node_api.pod_lists import pod_list, running_pod_list
from agent.server.node_api.request_counts import ServedRequests, label_of
from agent.server.node_api.reviews import Reviewer, ReviewError, Reviews
from agent.server.node_api.streams import Streams
from agent.server.node_api.system_logs import SystemLogs
from agent.server.node_api.targets import VerbError, Workers
from agent.server.node_api.tls import ServerTls, TlsError
from agent.state_dir import CHECKPOINTS
from agent.volumes.file_systems import FileSystems
from cri_client.protocols import Images, Runtime

if TYPE_CHECKING:
    from agent.server.node_api.measures import Measures

MAX_BODY_BYTES = 64 << 10
_RETRY_S = 5.0
_JSON = "application/json"
_SYSTEM_LOGS = Path("/var/log")
_ANY_DEPTH = tuple(range(20))
_log = logging.getLogger(__name__)
_Answer = Callable[[web.BaseRequest, tuple[str, ...]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class _Verb:
    """`parts` is how many parts may follow the first; `off` the status where enableDebuggingHandlers is false, 0 where
    that changes nothing; without `methods` there is none that the verb refuses, or it does so itself; `exact`: with a
    slash at the end it is no path.
    """

    answer: _Answer
    parts: tuple[int, ...]
    methods: tuple[str, ...] = ("GET",)
    off: int = 0
    exact: bool = False


class NodeApi:
    """`run` serves for ever; `port` is where, 0 while that is found to be impossible."""

    def __init__(
        self,
        settings: Settings,
        client: Reviewer,
        runtime: Runtime,
        images: Images,
        workers: Workers,
        board: StatusBoard,
        numbers: Numbers,
        listening: Callable[[], None],
        file_systems: FileSystems | None = None,
    ) -> None:
        config = settings.config
        self._config = config.cluster.server
        self._settings = settings
        self._workers = workers
        self._board = board
        self._listening = listening
        self._reviews = Reviews(client, self._config, config.node_name)
        self._tls = ServerTls(self._config, config.cluster.cert_dir, config.node_name)
        self.logs = ContainerLogs(workers, config.pod_logs_dir)
        self.streams = Streams(runtime, workers, self._config.stream_idle_s)
        self._checkpoints = Checkpoints(runtime, workers, config.root_dir / CHECKPOINTS)
        self._itself = Itself(settings, lambda: self._verbs)
        self.system_logs = SystemLogs(_SYSTEM_LOGS, queries=self._config.log_queries)
        self._requests = ServedRequests()
        self._runtime = runtime
        self._images = images
        self._file_systems = file_systems or FileSystems()
        self._numbers = numbers
        self._measures: Measures | None = None
        self._verbs = self._table()
        self.port = self._config.port

    async def run(self) -> None:
        """Serve as soon as there are certificate and port."""
        said = ""
        while True:
            try:
                await self._tls.current()
                listener = listen(self._config.address, self._config.port)
                break
            except (TlsError, CertificateError, OSError) as error:
                text = (error.strerror if isinstance(error, OSError) else None) or str(error)
                if text != said:
                    said, self.port = text, 0
                    self._listening()
                    _log.error("%s; trying again", text)
                await asyncio.sleep(_RETRY_S)
        with listener:
            self.port = int(listener.getsockname()[1])
            if said:
                self._listening()
            server = web.Server(self._handle, handler_cancellation=True)
            await Listener(server, self._tls.current).run(listener)

    def _table(self) -> Mapping[str, _Verb]:
        streams, both = self.streams, ("GET", "POST")
        return {
            "metrics": _Verb(self._metrics, (0, 1), (), exact=True),
            "stats": _Verb(self._stats, (1,), both),
            "healthz": _Verb(self._healthz, (0, 1), (), exact=True),
            "pods": _Verb(self._pods, (0,)),
            "runningpods": _Verb(self._running_pods, (0,), off=405),
            "configz": _Verb(self._itself.configz, (0,), (), off=404, exact=True),
            "containerLogs": _Verb(lambda r, p: self.logs.get(r, *p), (3,), off=405),
            "exec": _Verb(lambda r, p: streams.exec(r, *_names(p)), (3, 4), both, off=405),
            "attach": _Verb(lambda r, p: streams.attach(r, *_names(p)), (3, 4), both, off=405),
            "portForward": _Verb(lambda r, p: streams.port_forward(r, *p), (2, 3), both, off=405),
            "logs": _Verb(self._logs, _ANY_DEPTH, off=405),
            **self._gated(),
            "debug": _Verb(self._itself.debug, _ANY_DEPTH, ()),
            "run": _Verb(lambda r, p: streams.run(r, *_names(p)), (3, 4), ("POST",), off=405),
        }

    def _gated(self) -> dict[str, _Verb]:
        """The verbs that a feature gate may take away."""
        found = {
            CHECKPOINT: ("checkpoint", _Verb(lambda r, p: self._checkpoints.post(r, *p), (3,), ("POST",), off=404)),
            STATUSZ: ("statusz", _Verb(self._itself.statusz, (0,), (), off=404, exact=True)),
            FLAGZ: ("flagz", _Verb(self._itself.flagz, (0,), (), off=404, exact=True)),
        }
        return dict(found[gate] for gate in sorted(self._config.gates))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101 # Listener makes no others
        connection.request_began()
        try:
            if request.version not in (HttpVersion10, HttpVersion11):
                raise VerbError(505, "505 HTTP Version Not Supported")
            label = label_of(request.method, request.raw_path.partition("?")[0], self._verbs)
            with self._requests.counted(label):
                return await self._answer(request, connection)
        except VerbError as error:
            return _refusal(error.status, str(error), error.allow)
        finally:
            connection.request_ended()

    async def _answer(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        caller = await self._caller(request)
        if caller is None:
            return _refusal(401, "Unauthorized")
        try:
            parts = split_path(request.raw_path.partition("?")[0])
        except PathError as error:
            return _refusal(400, str(error))
        need = need_of(request.method, parts)
        who = f"user={caller.name}, verb={need.verb}, resource=nodes, subresource(s)=[{' '.join(need.subresources)}]"
        try:
            if not await self._reviews.may(caller, need):
                return _refusal(403, f"Forbidden ({who})")
        except ReviewError as error:
            _log.warning("cannot have access reviewed: %s", error)
            return _refusal(500, f"Authorization error ({who})")
        connection.allowed()
        return await self._find(request, parts)(request, parts[1:])

    def _find(self, request: web.BaseRequest, parts: tuple[str, ...]) -> _Answer:
        verb = self._verbs.get(parts[0])
        off = verb.off if verb is not None and not self._config.debugging_handlers else 0
        slash = request.raw_path.partition("?")[0].endswith("/")
        if verb is None or len(parts) - 1 not in verb.parts or off == 404 or (verb.exact and slash):
            raise VerbError(404, "404 page not found")
        if off:
            raise VerbError(off, "Debug endpoints are disabled.")
        if verb.methods and request.method not in verb.methods:
            only = ", ".join(verb.methods)
            raise VerbError(405, f"405: {request.method} is not for this path, only {only}", verb.methods)
        if (request.content_length or 0) > MAX_BODY_BYTES:
            raise VerbError(413, f"a request's body has at most {MAX_BODY_BYTES} bytes")
        return verb.answer

    async def _caller(self, request: web.BaseRequest) -> Caller | None:
        transport = request.transport
        found = transport.get_extra_info("peercert") if transport is not None else None
        caller = caller_of_certificate(found, time.time())
        if caller is not None:
            return caller
        return await self._reviews.caller_of_token(bearer_token(request.headers.get("Authorization", "")))

    def _measuring(self) -> Measures:
        """Made, and its library loaded, when somebody asks for the first time."""
        if self._measures is None:
            from agent.server.node_api.measures import Measures

            self._measures = Measures(
                self._settings.config,
                self._runtime,
                self._images,
                self._workers,
                self._numbers,
                self._requests,
                lambda: self._tls.signed_until_s,
                self._file_systems,
            )
        return self._measures

    async def _metrics(self, _request: web.BaseRequest, parts: tuple[str, ...]) -> web.StreamResponse:
        measures = self._measuring()
        verbs = {
            (): measures.agent,
            ("resource",): measures.resource,
            ("cadvisor",): measures.cadvisor,
            ("probes",): measures.probes,
        }
        if parts not in verbs:
            raise VerbError(404, "404 page not found")
        return await verbs[parts]()

    async def _stats(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.StreamResponse:
        if parts != ("summary",):
            raise VerbError(404, "404 page not found")
        return await self._measuring().summary(request)

    async def _healthz(self, _request: web.BaseRequest, parts: tuple[str, ...]) -> web.StreamResponse:
        if parts and parts[0] not in ("ping", "log", "syncloop"):
            raise VerbError(404, "404 page not found")
        return web.Response(text="ok")

    async def _pods(self, _request: web.BaseRequest, _parts: tuple[str, ...]) -> web.StreamResponse:
        return web.Response(body=pod_list(one for _, one in self._board.entries()), content_type=_JSON)

    async def _running_pods(self, _request: web.BaseRequest, _parts: tuple[str, ...]) -> web.StreamResponse:
        return web.Response(body=running_pod_list(self._workers()), content_type=_JSON)

    async def _logs(self, request: web.BaseRequest, parts: tuple[str, ...]) -> web.StreamResponse:
        if not self._config.system_logs:
            raise VerbError(405, "logs endpoint is disabled.")
        return await self.system_logs.get(request, parts)


def _names(parts: tuple[str, ...]) -> tuple[str, ...]:
    """NAMESPACE, POD, CONTAINER and UID, whose place in a path is before the container."""
    return parts if len(parts) < 4 else (parts[0], parts[1], parts[3], parts[2])


def _refusal(status: int, text: str, allow: tuple[str, ...] = ()) -> web.Response:
    response = web.Response(status=status, text=f"{text}\n", headers={"Allow": ", ".join(allow)} if allow else None)
    if status in (400, 401, 403, 413, 505):
        response.force_close()  # whoever may not be here does not stay
    return response
