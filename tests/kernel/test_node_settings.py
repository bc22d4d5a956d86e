"""conntrack.* of the configuration in the kernel of the node, and what may be missing there said, not fatal."""

from __future__ import annotations

import json
from pathlib import Path

from tests.kernel.netlab import Node
from tests.kernel.proxy_process import ProxyProcess, one_variant

_SYSCTLS = Path("/proc/sys/net/netfilter")


@one_variant
async def test_timeouts_of_the_configuration_are_the_kernels(node: Node, daemon: ProxyProcess) -> None:
    node.iptables("-A FORWARD -m conntrack --ctstate INVALID -j DROP")  # connection tracking is there from now on
    before = (_SYSCTLS / "nf_conntrack_udp_timeout").read_text().strip()
    conntrack = {
        "tcpEstablishedTimeout": "2h0m0s",
        "tcpCloseWaitTimeout": "90s",
        "tcpBeLiberal": True,
        "udpTimeout": "0s",
        "udpStreamTimeout": "77s",
    }
    config = daemon.base / "config.yaml"
    head = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
    config.write_text(json.dumps({**head, "conntrack": conntrack}))
    daemon.start(f"--config={config}")
    await daemon.until_synced()

    def value(name: str) -> str:
        return (_SYSCTLS / f"nf_conntrack_{name}").read_text().strip()

    assert value("tcp_timeout_established") == "7200"
    assert value("tcp_timeout_close_wait") == "90"
    assert value("udp_timeout_stream") == "77"
    assert value("udp_timeout") == before, "zero leaves the kernel's value alone"
    assert value("tcp_be_liberal") == "1"
    assert "INVALID" not in "".join(line for line in node.save().splitlines() if "KUBE-FORWARD" in line)
    # The table is the whole machine's: a namespace of its own may not change its size, and the proxy goes on.
    assert "cannot set net.netfilter.nf_conntrack_max" in daemon.log.read_text()
