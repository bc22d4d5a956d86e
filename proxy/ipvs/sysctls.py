"""The kernel settings that mode ipvs needs.  I/O on /proc/sys.

Before: `proxy.ipvs.engine`, once the module is there.  Next: the kernel.  Source: kube-proxy's ipvs mode;
Documentation/networking/ipvs-sysctl.rst.
"""

from __future__ import annotations

from proxy.iptables.sysctls import write_sysctl
from proxy.ipvs.model import IpvsSettings

_ALWAYS = (
    ("net.ipv4.vs.conntrack", "1"),  # or iptables could not masquerade what IPVS forwards
    ("net.ipv4.vs.expire_nodest_conn", "1"),  # a datagram to a target that is gone makes room for another one
    ("net.ipv4.vs.expire_quiescent_template", "1"),  # clients do not stay with a target that drains
    ("net.ipv4.ip_forward", "1"),
)
_STRICT_ARP = (("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2"))


def apply_settings(settings: IpvsSettings) -> tuple[str, ...]:
    """Write what differs; returns what could not be written, each with what to do about it.

    conn_reuse_mode stays as it is: since Linux 5.9 its default no longer delays connections from a port used before.
    """
    wanted = (*_ALWAYS, *(_STRICT_ARP if settings.strict_arp else ()))
    problems = (write_sysctl(name, value) for name, value in wanted)
    return tuple(problem for problem in problems if problem is not None)
