"""Probe of kind grpc: the standard health service, grpc.health.v1.Health/Check.

Before: prober.py with a `GrpcAsk`.  Next: the result for machine.py.  Effects: one connection of its own for each
request, without TLS and without proxies, as in the kubelet.  grpc is there anyway: the runtime is asked by it.

The messages need no generated code: HealthCheckRequest is one string in field 1, HealthCheckResponse one enumeration in
field 1, and protobuf's own wrappers of a string and a number look the same on the wire.  Source:
grpc.health.v1/health.proto.
"""

from __future__ import annotations

import asyncio

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from agent.probes.machine import Outcome, ProbeResult
from agent.probes.plan import GrpcAsk
from agent.probes.tcp_probe import address

USER_AGENT = "kube-probe/1.36"
_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = 1
_STATUS_NAMES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_OPTIONS = (
    ("grpc.primary_user_agent", USER_AGENT),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or another probe's connection, and its back-off, would be taken over
    ("grpc.max_receive_message_length", 64 * 1024),
)


async def run_grpc(ask: GrpcAsk, pod_ip: str, timeout_s: float) -> ProbeResult:
    """Success when the service (empty: the server as a whole) says SERVING within `timeout_s`."""
    where = address(pod_ip, ask.port)
    channel = grpc.aio.insecure_channel(f"{'ipv6' if ':' in pod_ip else 'ipv4'}:{where}", options=_OPTIONS)
    try:
        return await _check(channel, ask, where, timeout_s)
    finally:
        await channel.close(None)


async def _check(channel: grpc.aio.Channel, ask: GrpcAsk, where: str, timeout_s: float) -> ProbeResult:
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    try:
        async with asyncio.timeout_at(deadline_s):
            await channel.channel_ready()
    except TimeoutError:
        text = f'timeout: failed to connect service "{where}" within {timeout_s:g}s: context deadline exceeded'
        return ProbeResult(Outcome.FAILURE, text, timed_out=True)
    check = channel.unary_unary(
        _METHOD,
        request_serializer=StringValue.SerializeToString,
        response_deserializer=Int32Value.FromString,
    )
    try:
        left_s = max(0.0, deadline_s - asyncio.get_running_loop().time())
        status = (await check(StringValue(value=ask.service), timeout=left_s)).value
    except grpc.aio.AioRpcError as error:
        return _failed(error, timeout_s)
    if status == _SERVING:
        return ProbeResult(Outcome.SUCCESS, "service healthy")
    name = _STATUS_NAMES[status] if 0 <= status < len(_STATUS_NAMES) else str(status)
    return ProbeResult(Outcome.FAILURE, f'service unhealthy (responded with "{name}")')


def _failed(error: grpc.aio.AioRpcError, timeout_s: float) -> ProbeResult:
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNIMPLEMENTED:
        text = f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {details}"
        return ProbeResult(Outcome.FAILURE, text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        text = f"timeout: health rpc did not complete within {timeout_s:g}s"
        return ProbeResult(Outcome.FAILURE, text, timed_out=True)
    return ProbeResult(
        Outcome.FAILURE, f"error: health rpc probe failed: rpc error: code = {_go_name(code)} desc = {details}"
    )


def _go_name(code: grpc.StatusCode) -> str:
    """The name of a code as Go's messages have it: NOT_FOUND is NotFound."""
    return "".join(word.capitalize() for word in code.name.split("_"))
