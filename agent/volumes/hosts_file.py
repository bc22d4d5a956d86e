"""The /etc/hosts of a pod's containers, as the kubelet writes it. Pure.

Before: the pod has its addresses.  Next: pod_files.py writes the text to the pod's directory.
"""

from __future__ import annotations

from collections.abc import Sequence

from lightkube.models import core_v1

_HEADER = "# Kubernetes-managed hosts file.\n"
_HEADER_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"
_OWN_NAMES = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("fe00::0", "ip6-mcastprefix"),
    ("fe00::1", "ip6-allnodes"),
    ("fe00::2", "ip6-allrouters"),
)


def render_hosts_file(
    pod_ips: Sequence[str],
    hostname: str,
    domain: str,
    aliases: Sequence[core_v1.HostAlias],
) -> str:
    """The file of a pod with a network of its own; `domain` "" for none."""
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    lines = [*_OWN_NAMES, *((address, names) for address in pod_ips)]
    return _HEADER + "".join(f"{address}\t{text}\n" for address, text in lines) + _render_aliases(aliases)


def render_host_network_file(node_hosts: str, aliases: Sequence[core_v1.HostAlias]) -> str:
    """The file of a pod in the node's network: the node's own, and the aliases."""
    return _HEADER_HOST_NETWORK + node_hosts + _render_aliases(aliases)


def _render_aliases(aliases: Sequence[core_v1.HostAlias]) -> str:
    if not aliases:
        return ""
    lines = ("\t".join([alias.ip, *(alias.hostnames or ())]) for alias in aliases)
    return "\n# Entries added by HostAliases.\n" + "".join(f"{line}\n" for line in lines)
