"""Prepares the kernel for mode ipvs: modules, device, timeouts, sysctls.  I/O; blocks.

Before: the engine begins, or `longshore-proxy --init-only`.  Next: whoever has no more than CAP_NET_ADMIN can go on.
"""

from __future__ import annotations

from proxy.ipvs import sysctls
from proxy.ipvs.model import IpvsSettings
from proxy.ipvs.netlink import Kernel


def ready_kernel(settings: IpvsSettings) -> Kernel:
    """Sockets of a kernel that has all that is needed; raises BackendUnusableError, or StepError."""
    kernel = Kernel()
    try:
        kernel.need_scheduler(settings.scheduler)
        kernel.make_device()
        kernel.set_timeouts(settings)
    except BaseException:
        kernel.close()
        raise
    return kernel


def prepare(settings: IpvsSettings) -> tuple[str, ...]:
    """Returns the sysctls that could not be written, each with what to do about it."""
    ready_kernel(settings).close()
    return sysctls.apply_settings(settings)
