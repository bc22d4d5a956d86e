"""What a configuration that is read again changes, and what stays as it was at the start."""

from __future__ import annotations

from pathlib import Path

from proxy.config_document import config_document
from proxy.reload import in_force
from tests.unit.proxy.test_config_document import HEAD, loaded

STARTED = """
mode: iptables
healthzBindAddress: 127.0.0.1:9
conntrack: {maxPerCore: 5, tcpEstablishedTimeout: 1m0s}
clientConnection: {burst: 7}
iptables: {syncPeriod: 20s}
"""
ANOTHER = """
mode: nftables
healthzBindAddress: 127.0.0.1:10
metricsBindAddress: 127.0.0.1:11
bindAddressHardFail: true
conntrack: {maxPerCore: 6, min: 3}
clientConnection: {qps: 9}
oomScoreAdj: 3
"""


def test_what_waits_for_a_restart_is_named_and_not_shown_as_in_force(tmp_path: Path) -> None:
    old = loaded(tmp_path / "config", HEAD + STARTED)
    config, waiting = in_force(old, loaded(tmp_path / "config", HEAD + ANOTHER + "detectLocalMode: NodeCIDR\n"))
    assert waiting == (
        "mode", "api", "healthz_bind", "metrics_bind", "bind_address_hard_fail", "conntrack", "oom_score_adj"
    )  # fmt: skip
    before, after = config_document(old), config_document(config)
    assert {name for name in after if after[name] != before[name]} == {"iptables", "detectLocalMode"}
    assert config.conntrack == old.conntrack


def test_what_takes_effect_at_once_is_taken(tmp_path: Path) -> None:
    old = loaded(tmp_path / "config", HEAD + STARTED)
    new = loaded(tmp_path / "config", HEAD + STARTED.replace("20s", "40s"))
    config, waiting = in_force(old, new)
    assert (config, waiting, config.given) == (new, (), new.given)
