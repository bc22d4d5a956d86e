"""What an earlier run left in the kernel that shapes the rules of this one.  Reads /proc/sys.

Before: `proxy.iptables.observe` read the tables.  Next: the configuration with which `proxy.iptables.render` makes the
same rules again.
"""

from __future__ import annotations

from dataclasses import replace

from proxy.iptables import sysctls
from proxy.iptables.frame import RenderConfig
from proxy.iptables.model import HAIRPIN, POSTROUTING, Ruleset
from proxy.iptables.observe import route_localnet_before


def adopted(config: RenderConfig, kernel: Ruleset, family: int) -> RenderConfig:
    """`config` with what was found out before: the sysctl's value before us, and whether xt_bpf is missing."""
    if family == 4 and config.localhost_node_ports and not config.route_localnet_before:
        noted = sysctls.localnet_before(route_localnet_before(kernel), config.localnet_note)
        before = noted or sysctls.read_sysctl(sysctls.ROUTE_LOCALNET)
        config = replace(config, route_localnet_before=before)
    return replace(config, hairpin_by_bpf=False) if HAIRPIN in kernel.nat.chains else config


def uses_bpf(kernel: Ruleset) -> bool:
    """xt_bpf is in use there, so it exists."""
    chain = kernel.nat.chains.get(POSTROUTING)
    return chain is not None and any(" -m bpf " in rule for rule in chain.rules)
