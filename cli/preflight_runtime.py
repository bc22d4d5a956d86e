"""What the container runtime says about itself, for `longshore check`. I/O: a few calls of the CRI that change nothing.

Before: `cli.check` chose the endpoint. Next: it prints the findings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from cli.preflight import Finding
from cri_client.channel import connect, discover_endpoint
from cri_client.endpoint import explain_endpoint
from cri_client.errors import CriError, EndpointError
from cri_client.runtime import RuntimeClient
from cri_client.types import StatusResponse, VersionResponse

_DEADLINE_S = 10.0
_INSTALL = "apt-get install containerd; systemctl enable --now containerd; or say where it is with --runtime-endpoint"


def runtime_findings(endpoint: str | None) -> Iterator[Finding]:
    """The socket, the version of the runtime and of the CRI, and the runtime's own conditions."""
    try:
        found = discover_endpoint(endpoint)
    except EndpointError as error:
        yield Finding("runtime", False, str(error), _INSTALL)
        return
    problem = explain_endpoint(found)
    if problem is not None:
        yield Finding("runtime", False, str(problem), _INSTALL)
        return
    yield Finding("runtime", True, f"listens on {found}")
    try:
        version, status = asyncio.run(_ask(found))
    except CriError as error:
        fix = "take 'cri' out of disabled_plugins in /etc/containerd/config.toml; systemctl restart containerd"
        yield Finding("CRI", False, str(error), fix)
        return
    name = f"{version.runtime_name} {version.runtime_version}"
    spoken = version.runtime_api_version
    ok = spoken.startswith("v1") and "alpha" not in spoken and "beta" not in spoken
    yield Finding("CRI", ok, f"{name}, CRI {spoken}", "" if ok else "use containerd 1.6 or newer, which speaks CRI v1")
    conditions = status.status.conditions if status.status is not None else ()
    for one in conditions:
        text = f"{one.type}" + ("" if one.status else f" is false: {one.message or one.reason}")
        fix = "" if one.status else "read the runtime's log: journalctl -u containerd"
        yield Finding("runtime", one.status, text, fix)


async def _ask(endpoint: str) -> tuple[VersionResponse, StatusResponse]:
    async with connect(endpoint, timeout_s=_DEADLINE_S) as channel:
        runtime = RuntimeClient(channel)
        return await runtime.version(), await runtime.status()
