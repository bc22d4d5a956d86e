"""What `proxy.iptables.engine` would write, without writing it.  Reads the kernel's tables.

Before: `proxy.plan` resolved the routes.  Next: a person reads the input of iptables-restore.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.iptables.adopt import adopted
from proxy.iptables.detect import detect
from proxy.iptables.diff import diff
from proxy.iptables.frame import RenderConfig
from proxy.iptables.observe import observe
from proxy.iptables.render import render
from proxy.routes import ServiceRoute


async def planned_restore(
    config: RenderConfig, family: int, routes: Iterable[ServiceRoute], variant: str | None = None
) -> tuple[str, str]:
    """The command and its standard input; "" where the kernel holds everything.  Raises BackendError."""
    tools = await detect(family, variant)
    kernel = await observe(tools)
    wanted = render((route for route in routes if route.family == family), adopted(config, kernel, family), family)
    return f"{tools.restore} --noflush", diff(kernel, wanted).text
