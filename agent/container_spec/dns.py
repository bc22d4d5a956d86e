"""What the containers of a pod find in /etc/resolv.conf and as their host name.

Pure.  Before: agent/node has read the node's resolver file, agent/config the cluster DNS.  Next: sandbox.py gives
both to the runtime, agent/volumes writes `hosts_file` for the containers.  Sources: API fields `dnsPolicy`,
`dnsConfig`, `hostname`, `subdomain`; resolv.conf(5).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from lightkube.models import core_v1

from agent.container_spec.facts import SpecError, SpecFacts
from cri_client import types as cri

MAX_NAMESERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
MAX_SEARCH_DOMAIN_CHARS = 253
MAX_HOSTNAME_CHARS = 63
MAX_FQDN_CHARS = 64


def parse_resolv_conf(text: str) -> cri.DNSConfig:
    """Nameservers add up, the last `search` line counts, options add up and the last of each name counts."""
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "nameserver" and len(words) > 1:
            servers.append(words[1])
        elif words[0] == "search":
            searches = [domain.removesuffix(".") for domain in words[1:] if domain != "."]
        elif words[0] == "options":
            options.update({option.split(":")[0]: option for option in words[1:]})
    return cri.DNSConfig(servers=tuple(servers), searches=tuple(searches), options=tuple(options.values()))


def pod_dns(pod: core_v1.Pod, facts: SpecFacts) -> cri.DNSConfig:
    """The resolver settings of the pod by its dnsPolicy, with its dnsConfig added, cut to what resolvers accept."""
    spec = pod.spec
    if spec and spec.dnsPolicy == "None":
        base = cri.DNSConfig()
    elif wants_cluster_dns(pod) and facts.cluster_dns:
        base = _cluster_dns(pod, facts)
    else:
        base = _node_dns(facts)
    if spec and spec.dnsConfig:
        base = _add_dns_config(base, spec.dnsConfig)
    return cri.DNSConfig(
        servers=base.servers[:MAX_NAMESERVERS], searches=_fitting_searches(base.searches), options=base.options
    )


def wants_cluster_dns(pod: core_v1.Pod) -> bool:
    """Whether its names are to be resolved by the DNS of the cluster."""
    spec = pod.spec
    policy = (spec.dnsPolicy if spec else None) or "ClusterFirst"
    return policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not (spec and spec.hostNetwork))


def _cluster_dns(pod: core_v1.Pod, facts: SpecFacts) -> cri.DNSConfig:
    searches = parse_resolv_conf(facts.node.resolv_conf or "").searches
    if facts.cluster_domain:
        namespace = (pod.metadata.namespace if pod.metadata else None) or "default"
        service = f"svc.{facts.cluster_domain}"
        searches = _unique([f"{namespace}.{service}", service, facts.cluster_domain, *searches])
    return cri.DNSConfig(servers=facts.cluster_dns, searches=searches, options=("ndots:5",))


def _node_dns(facts: SpecFacts) -> cri.DNSConfig:
    if facts.node.resolv_conf is not None:
        return parse_resolv_conf(facts.node.resolv_conf)
    loopback = ["::1" if ipaddress.ip_address(ip).version == 6 else "127.0.0.1" for ip in facts.node.node_ips]
    return cri.DNSConfig(servers=tuple(loopback or ["127.0.0.1"]), searches=(".",))


def _add_dns_config(base: cri.DNSConfig, extra: core_v1.PodDNSConfig) -> cri.DNSConfig:
    options = {name: value for name, _, value in (option.partition(":") for option in base.options)}
    options.update({option.name or "": option.value or "" for option in extra.options or []})
    return cri.DNSConfig(
        servers=_unique([*base.servers, *(extra.nameservers or [])]),
        searches=_unique([*base.searches, *(extra.searches or [])]),
        options=tuple(f"{name}:{value}" if value else name for name, value in options.items()),
    )


def _fitting_searches(searches: tuple[str, ...]) -> tuple[str, ...]:
    fitting = [domain for domain in searches[:MAX_SEARCHES] if len(domain) <= MAX_SEARCH_DOMAIN_CHARS]
    while len(" ".join(fitting)) > MAX_SEARCH_CHARS:
        fitting.pop()
    return tuple(fitting)


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def pod_hostname(pod: core_v1.Pod, facts: SpecFacts) -> tuple[str, str]:
    """The pod's host name and its domain ("" without a subdomain).  A name longer than 63 characters is cut."""
    metadata, spec = pod.metadata, pod.spec
    name = (spec.hostname if spec else None) or (metadata.name if metadata else None) or ""
    if len(name) > MAX_HOSTNAME_CHARS:
        name = name[:MAX_HOSTNAME_CHARS].rstrip("-.")
    if not spec or not spec.subdomain:
        return name, ""
    namespace = (metadata.namespace if metadata else None) or "default"
    return name, f"{spec.subdomain}.{namespace}.svc.{facts.cluster_domain}"


def kernel_hostname(pod: core_v1.Pod, facts: SpecFacts) -> str:
    """What `uname -n` says in the pod: the host name, or the whole FQDN where setHostnameAsFQDN asks for it."""
    name, domain = pod_hostname(pod, facts)
    if not domain or not (pod.spec and pod.spec.setHostnameAsFQDN):
        return name
    fqdn = f"{name}.{domain}"
    if len(fqdn) > MAX_FQDN_CHARS:
        raise SpecError(
            f"cannot set host name {fqdn}: it has {len(fqdn)} characters, the kernel takes {MAX_FQDN_CHARS}"
        )
    return fqdn


def hosts_file(pod: core_v1.Pod, facts: SpecFacts, node_hosts: str = "") -> str:
    """The text of the pod's /etc/hosts.

    `facts.pod_ips` must be known.  For a host-network pod it is the node's own file, `node_hosts`, with a mark before
    it.  The pod's hostAliases follow.
    """
    spec = pod.spec
    if spec and spec.hostNetwork:
        text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts
    else:
        name, domain = pod_hostname(pod, facts)
        names = f"{name}.{domain}\t{name}" if domain else name
        text = _HOSTS_HEADER + "".join(f"{ip}\t{names}\n" for ip in facts.pod_ips)
    aliases = (spec.hostAliases if spec else None) or []
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join(f"{alias.ip}\t{_tabbed(alias.hostnames)}\n" for alias in aliases)
    return text


def _tabbed(names: list[str] | None) -> str:
    return "\t".join(names or [])


_HOSTS_HEADER = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
