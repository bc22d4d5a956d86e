"""The sentences of the manual pages that no table of the code holds. Pure.

Before: nothing. Next: `cli.man_pages` puts them around the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cli.failure import BAD_MANIFEST, FAILED, NOT_FOUND, UNREACHABLE
from cli.roff import Entry


@dataclass(frozen=True)
class Prose:
    """What a page says beside its table; an empty line parts the paragraphs of `description`."""

    name: str
    about: str
    synopsis: str
    description: str
    example: str = ""


AGENT = Prose(
    name="longshore-agent",
    about="run the pods of this node",
    synopsis="longshore-agent --config /etc/longshore/agent.yaml [FLAGS]",
    description="""
Runs the static pods of a directory on this machine, and with --kubeconfig the pods that an API server has for it,
through the runtime's CRI socket. Takes the flags and the configuration file of the kubelet; longshore-agent.yaml(5)
describes the file. A flag beats the file, the file beats the default.

A stop, a crash or an upgrade of the agent changes nothing that runs: the next start observes and adopts.

systemd runs it as longshore-agent.service.
""",
)
PROXY = Prose(
    name="longshore-proxy",
    about="program the services of this node into the kernel",
    synopsis="longshore-proxy --config /etc/longshore/proxy.yaml [FLAGS]\nlongshore-proxy --cleanup",
    description="""
Reads Services and EndpointSlices from a directory, with the pods from the agent, or all of it from an API server, and
programs the kernel's packet filter. Takes the flags and the configuration file of kube-proxy; longshore-proxy.yaml(5)
describes the file. With --config, only --hostname-override, --master, -v, --cleanup, --manifest-dir, --agent-socket,
--api-socket, --node-labels, --deny-service-external-ips, --init-only and --write-config-to still count.

A stop leaves every rule in place; --cleanup takes them away.

systemd runs it as longshore-proxy.service.
""",
)
AGENT_FILE = Prose(
    name="longshore-agent.yaml",
    about="configuration of the Longshore agent",
    synopsis="/etc/longshore/agent.yaml",
    description="""
A KubeletConfiguration (kubelet.config.k8s.io/v1beta1) in YAML. An unknown field is an error that names the nearest
known one; nothing is ignored in silence. The agent reads the file when it starts and at SIGHUP (systemctl reload
longshore-agent); a file that is wrong at SIGHUP changes nothing.

An error is one line that names file, line and field; the exit status is then 78.
""",
    example="""\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
staticPodPath: /etc/longshore/manifests
maxPods: 50
""",
)
PROXY_FILE = Prose(
    name="longshore-proxy.yaml",
    about="configuration of the Longshore proxy",
    synopsis="/etc/longshore/proxy.yaml",
    description="""
A KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) in YAML. An unknown field is an error that names the nearest
known one. The proxy reads the file when it starts and at SIGHUP (systemctl reload longshore-proxy); a file that is
wrong at SIGHUP changes nothing. The mode, the API server, directories, sockets, listening addresses,
bindAddressHardFail, oomScoreAdj and conntrack settings take effect after a restart.

An error is one line that names file, line and field; the exit status is then 78.
""",
    example="""\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
nodePortAddresses: [primary]
""",
)

# What both daemons take and no table lists.
COMMON_ENTRIES = (Entry("--version", "Print the version and exit."), Entry("-h, --help", "Print help and exit."))

SIGNALS = (
    Entry("SIGTERM, SIGINT", "Stop. Pods and rules stay as they are."),
    Entry("SIGHUP", "Read the configuration again; a wrong one is reported and the old one stays."),
)

EXIT_STATUS: Mapping[int, tuple[Entry, ...]] = {
    1: (
        Entry("0", "Done."),
        Entry(str(FAILED), "Failed, or something is not well."),
        Entry("2", "Wrong usage, or a name that may mean several objects."),
        Entry(str(NOT_FOUND), "Not found."),
        Entry(str(UNREACHABLE), "A daemon cannot be reached."),
        Entry(str(BAD_MANIFEST), "A bad manifest; nothing was written."),
    ),
    8: (
        Entry("0", "Stopped."),
        Entry("1", "Cannot run on this machine; the last line on standard error says why."),
        Entry("78", "The configuration is wrong (EX_CONFIG); systemd does not start it again."),
    ),
}

FILES = (
    Entry("/etc/longshore/agent.yaml, /etc/longshore/proxy.yaml", "The configuration files."),
    Entry("/etc/longshore/manifests", "Manifests of pods, one a file (staticPodPath)."),
    Entry("/etc/longshore/services", "Manifests of Services and EndpointSlices."),
    Entry("/etc/kubernetes", "Certificates and kubeconfigs of a control plane; longshore.json says what is ours."),
    Entry("/var/lib/etcd", "Data of a control plane's etcd."),
    Entry("/var/lib/longshore", "State of the agent, and its socket agent.sock."),
    Entry("/run/longshore/proxy.sock", "Socket of the proxy."),
    Entry("/var/log/pods, /var/log/containers", "What containers write."),
    Entry("/usr/share/doc/longshore", "The documents."),
)
