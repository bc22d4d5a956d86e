"""What the container runtime says about itself, for `longshore check`. I/O: a few calls of the CRI that change nothing.

Before: `cli.check` chose the endpoint. Next: it prints the findings.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from cli.preflight import Finding
from cri_client.channel import connect, discover_endpoint
from cri_client.endpoint import explain_endpoint
from cri_client.errors import CriError, EndpointError, Unimplemented
from cri_client.runtime import RuntimeClient
from cri_client.types import RuntimeConfigResponse, StatusResponse, VersionResponse
from daemonkit.release import release

_DEADLINE_S = 10.0
_OLDEST_CONTAINERD = (1, 6)
_INSTALL = "apt-get install containerd; systemctl enable --now containerd; or say where it is with --runtime-endpoint"


def runtime_findings(endpoint: str | None, cgroup_driver: str | None = None) -> Iterator[Finding]:
    """The socket, the version of the runtime and of the CRI, whether it has the agent's configured `cgroup_driver`, and
    the runtime's own conditions.
    """
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
        version, status, config = asyncio.run(_ask(found))
    except CriError as error:
        fix = "take 'cri' out of disabled_plugins in /etc/containerd/config.toml; systemctl restart containerd"
        yield Finding("CRI", False, str(error), fix)
        return
    yield version_finding(version)
    if cgroup_driver is not None:
        yield driver_finding(cgroup_driver, config, status)
    conditions = status.status.conditions if status.status is not None else ()
    for one in conditions:
        text = f"{one.type}" + ("" if one.status else f" is false: {one.message or one.reason}")
        fix = "" if one.status else "read the runtime's log: journalctl -u containerd"
        yield Finding("runtime", one.status, text, fix)


def version_finding(version: VersionResponse) -> Finding:
    """Is the runtime new enough? Pure."""
    name = f"{version.runtime_name} {version.runtime_version}"
    spoken = version.runtime_api_version
    ok = spoken.startswith("v1") and "alpha" not in spoken and "beta" not in spoken
    ok = ok and not (version.runtime_name == "containerd" and release(version.runtime_version) < _OLDEST_CONTAINERD)
    return Finding("CRI", ok, f"{name}, CRI {spoken}", "" if ok else "use containerd 1.6 or newer, which speaks CRI v1")


def driver_finding(configured: str, config: RuntimeConfigResponse | None, status: StatusResponse) -> Finding:
    """Do agent and runtime agree on who makes cgroups? What the runtime says in RuntimeConfig the agent follows; of an
    older one only its own configuration tells. Pure.
    """
    if config is not None and config.linux is not None:
        said = config.linux.cgroup_driver.name.lower()
        return Finding("cgroup driver", True, f"{said}, as the runtime says")
    systemd = _systemd_cgroup(status.info.get("config", ""))
    if systemd is None:
        return Finding("cgroup driver", None, f"{configured}; the runtime does not say which it has", "compare them")
    of_runtime = "systemd" if systemd else "cgroupfs"
    if of_runtime == configured:
        return Finding("cgroup driver", True, f"{configured}, here and in the runtime")
    fix = f"cgroupDriver: {of_runtime} in agent.yaml, or SystemdCgroup = {str(not systemd).lower()} in config.toml"
    return Finding("cgroup driver", False, f"{configured} here, {of_runtime} in the runtime", fix)


def _systemd_cgroup(text: str) -> bool | None:
    """SystemdCgroup of the default runtime in containerd's configuration as it reports it."""
    try:
        containerd = json.loads(text)["containerd"]
        options = containerd["runtimes"][containerd.get("defaultRuntimeName") or "runc"].get("options") or {}
        return bool(options.get("SystemdCgroup", False))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


async def _ask(endpoint: str) -> tuple[VersionResponse, StatusResponse, RuntimeConfigResponse | None]:
    async with connect(endpoint, timeout_s=_DEADLINE_S) as channel:
        runtime = RuntimeClient(channel)
        version, status = await runtime.version(), await runtime.status(verbose=True)
        try:
            return version, status, await runtime.runtime_config()
        except Unimplemented:
            return version, status, None
