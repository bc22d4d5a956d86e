"""Who makes the cgroups of pods, runc by itself or systemd: the runtime's answer counts before the configuration.

Before: `running` has a runtime that answers.  Next: agent/cgroups and container_spec name cgroups for that driver.  One
call that changes nothing.  Source: KEP-4033; a runtime without RuntimeConfig (containerd 1.x) leaves it to the field
cgroupDriver, which then has to be what the runtime is configured for.
"""

from __future__ import annotations

import logging
from typing import Protocol

from cri_client.errors import Unimplemented
from cri_client.types import CgroupDriver, RuntimeConfigResponse

_log = logging.getLogger(__name__)
_NAMES = {CgroupDriver.SYSTEMD: "systemd", CgroupDriver.CGROUPFS: "cgroupfs"}


class ConfiguredRuntime(Protocol):
    """The part of the runtime client that counts here."""

    async def runtime_config(self) -> RuntimeConfigResponse:
        """RuntimeConfig."""
        ...


async def agree_on_cgroup_driver(runtime: ConfiguredRuntime, configured: str) -> str:
    """ "systemd" or "cgroupfs".  Raises CriError where the runtime could not be asked."""
    try:
        answer = await runtime.runtime_config()
    except Unimplemented:
        return configured
    found = _NAMES.get(answer.linux.cgroup_driver) if answer.linux is not None else None
    if found is None:
        return configured
    if found != configured:
        _log.info("using the cgroup driver of the runtime, %s, instead of cgroupDriver: %s", found, configured)
    return found
