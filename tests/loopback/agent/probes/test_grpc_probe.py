"""gRPC probes against real servers on the loopback interface."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from lightkube.models import core_v1

from agent.probes.grpc_probe import run_grpc
from agent.probes.machine import Outcome, ProbeKind
from agent.probes.plan import GrpcAsk, plan_probes

STATES = {"": 1, "store": 2, "odd": 9, "new": 0}


class Health:
    """grpc.health.v1.Health as any server offers it; `seen` are the requests' services and user agents."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.seen: list[tuple[str, str]] = []

    async def check(self, request: StringValue, context: Any) -> Int32Value:
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        self.seen.append((request.value, metadata["user-agent"]))
        await asyncio.sleep(self.delay_s)
        if request.value not in STATES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return Int32Value(value=STATES[request.value])


@asynccontextmanager
async def served(health: Health | None) -> AsyncIterator[int]:
    server = grpc.aio.server()
    if health is not None:
        check = grpc.unary_unary_rpc_method_handler(
            health.check, request_deserializer=StringValue.FromString, response_serializer=Int32Value.SerializeToString
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check}),)
        )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    ("service", "outcome", "message"),
    [
        ("", Outcome.SUCCESS, "service healthy"),
        ("store", Outcome.FAILURE, 'service unhealthy (responded with "NOT_SERVING")'),
        ("new", Outcome.FAILURE, 'service unhealthy (responded with "UNKNOWN")'),
        ("odd", Outcome.FAILURE, 'service unhealthy (responded with "9")'),
        (
            "none",
            Outcome.FAILURE,
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
        ),
    ],
)
async def test_a_service_by_name(service: str, outcome: Outcome, message: str) -> None:
    health = Health()
    async with served(health) as port:
        result = await run_grpc(GrpcAsk(port, service), "127.0.0.1", 60)
    assert (result.outcome, result.message) == (outcome, message)
    ((asked, agent),) = health.seen
    assert asked == service
    assert agent.startswith("kube-probe/1.36 ")


async def test_a_server_without_health_says_so() -> None:
    async with served(None) as port:
        result = await run_grpc(GrpcAsk(port), "127.0.0.1", 60)
    assert result.outcome is Outcome.FAILURE
    assert result.message.startswith("error: this server does not implement the grpc health protocol")


async def test_a_slow_answer_and_nobody_at_all_are_time_outs() -> None:
    async with served(Health(delay_s=60)) as port:
        slow = await run_grpc(GrpcAsk(port), "127.0.0.1", 2.5)
    assert (slow.outcome, slow.timed_out) == (Outcome.FAILURE, True)
    assert slow.message == "timeout: health rpc did not complete within 2.5s"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = await run_grpc(GrpcAsk(closed.getsockname()[1]), "127.0.0.1", 0.3)
    assert (nobody.outcome, nobody.timed_out) == (Outcome.FAILURE, True)
    assert "failed to connect service" in nobody.message


def test_both_fields_are_asked_with() -> None:
    for service, expected in (("store", "store"), (None, "")):
        probe = core_v1.Probe(grpc=core_v1.GRPCAction(port=81, service=service))
        plan = plan_probes(core_v1.Container(name="a", livenessProbe=probe))[ProbeKind.LIVENESS]
        assert plan.ask == GrpcAsk(81, expected)
