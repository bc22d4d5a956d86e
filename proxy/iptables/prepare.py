"""Prepares the kernel for mode iptables, for a proxy that may not do so itself (--init-only).  I/O.

Before: `longshore-proxy --init-only`.  Next: a proxy with no more than CAP_NET_ADMIN.  Rules that are there stay.
"""

from __future__ import annotations

from proxy.iptables import sysctls
from proxy.iptables.adopt import adopted
from proxy.iptables.apply import apply_restore
from proxy.iptables.detect import detect
from proxy.iptables.diff import diff
from proxy.iptables.frame import RenderConfig
from proxy.iptables.model import FIREWALL
from proxy.iptables.observe import observe
from proxy.iptables.render import render

_GUARD = "cannot set net.ipv4.conf.all.route_localnet: rules without its guard are there; the proxy writes it"


async def prepare_localhost(config: RenderConfig) -> tuple[str, ...]:
    """The sysctl that node ports on localhost need, behind the rule that guards it; returns what is wrong.

    Raises BackendError.
    """
    if not config.localhost_node_ports:
        return ()
    tools = await detect(4, None)
    kernel = await observe(tools)
    if FIREWALL not in kernel.filter.chains:
        if not kernel.is_empty:
            return (_GUARD,)
        await apply_restore(tools, diff(kernel, render((), adopted(config, kernel, 4))).text)
    sysctls.note_localnet(config.localnet_note, adopted(config, kernel, 4).route_localnet_before)
    problem = sysctls.write_sysctl(sysctls.ROUTE_LOCALNET, "1")
    return (problem,) if problem is not None else ()
