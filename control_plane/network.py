"""The simple pod network of a node that has no other: a bridge and the addresses of its pod CIDR. Pure.

Before: `spec.podCIDR` of the Node. Next: `cli.bring_up` writes the text where the runtime looks for CNI
configurations. Source: https://www.cni.dev/plugins/current/main/bridge/.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

NAME = "longshore"
BRIDGE = "longshore0"
FILE_NAME = "10-longshore.conflist"
LEASES = Path("/var/lib/cni/networks") / NAME
"""Where host-local notes the addresses it has given out."""
NEEDED = ("bridge", "host-local")
HOST_PORTS = "portmap"


def bridge_conflist(pod_cidrs: Sequence[str], *, host_ports: bool) -> bytes:
    """A CNI configuration list; `host_ports`: the plugin portmap is installed. Raises ValueError for no network.

    What leaves the cluster is masqueraded by the agent: the plugin's own rules would also hide pods from each other. A
    Node that was made again may get another CIDR, hence forceAddress.
    """
    networks = [ipaddress.ip_network(cidr) for cidr in pod_cidrs]
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": str(network)}] for network in networks],
        "routes": [{"dst": "0.0.0.0/0" if network.version == 4 else "::/0"} for network in networks],
    }
    bridge: dict[str, object] = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "forceAddress": True}
    plugins = [{**bridge, "hairpinMode": True, "ipam": ipam}]
    if host_ports:
        plugins.append({"type": HOST_PORTS, "capabilities": {"portMappings": True}})
    value = {"cniVersion": "0.4.0", "name": NAME, "plugins": plugins}
    return json.dumps(value, indent=2).encode() + b"\n"
