"""The configuration in force as a file: what it says leads to the same configuration again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.config import ProxyConfig, load_config
from proxy.config_document import config_document, flag_values
from proxy.config_fields import BY_FLAG, BY_PATH, Use
from proxy.daemon import run

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
FILES = (
    "",
    """
mode: nftables
nftables: {masqueradeBit: 3, syncPeriod: 1m30s, minSyncPeriod: 250ms}
hostnameOverride: node-a
""",
    """
mode: ipvs
ipvs: {scheduler: wrr, excludeCIDRs: [10.1.0.0/16], strictARP: true, tcpTimeout: 15m}
nodePortAddresses: [primary]
healthzBindAddress: '[::1]:9'
metricsBindAddress: 127.0.0.1
""",
    """
featureGates: {MemoryQoS: true}
logging: {format: json, verbosity: 3, options: {json: {splitStream: true}}}
conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s}
clientConnection: {qps: -1, burst: 7}
oomScoreAdj: 0
""",
)


def loaded(path: Path, text: str) -> ProxyConfig:
    path.write_text(text)
    return load_config([f"--config={path}"])


@pytest.mark.parametrize("text", FILES)
def test_what_is_written_leads_to_the_same_configuration(tmp_path: Path, text: str) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    config = loaded(first, HEAD + text)
    assert run([f"--config={first}", f"--write-config-to={second}"]) == 0
    again = load_config([f"--config={second}"])
    assert replace(again, config_file=first, api=config.api) == config
    assert (again.api.burst, again.api.qps) == (config.api.burst or 10, config.api.qps or 5.0), "the defaults in words"
    assert config_document(again) == config_document(config)


def test_flags_are_written_too_and_every_field_is_there(tmp_path: Path) -> None:
    path = tmp_path / "written.yaml"
    assert (
        run(
            [
                "--proxy-mode=nftables",
                "--masquerade-all",
                "--feature-gates=MemoryQoS=true,NodeSwap=true",
                f"--write-config-to={path}",
            ]
        )
        == 0
    )
    document = config_document(load_config([f"--config={path}"]))
    assert (document["mode"], document["featureGates"]) == ("nftables", {"MemoryQoS": True, "NodeSwap": True})
    for name, field in BY_PATH.items():
        value = document
        for part in name.split("."):
            assert part in value, f"{name}, {field.use is Use.USED}"
            value = value[part]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([f"--write-config-to={tmp_path}/none/x.yaml"]) == 78
    assert "flag --write-config-to: cannot write" in capsys.readouterr().err


def test_flags_have_the_values_that_count_as_go_writes_them(tmp_path: Path) -> None:
    flags = flag_values(load_config(["--kube-api-qps=2.5", "--nodeport-addresses=10.0.0.0/8,fd00::/8", "-v=3"]))
    assert (flags["kube-api-qps"], flags["nodeport-addresses"]) == ("2.5", "[10.0.0.0/8,fd00::/8]")
    assert (flags["v"], flags["masquerade-all"], flags["conntrack-tcp-timeout-close-wait"]) == ("3", "false", "1h0m0s")
    assert set(flags) == set(BY_FLAG)
    file = tmp_path / "proxy.yaml"
    head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    file.write_text(f"{head}mode: nftables\nclientConnection: {{qps: 7}}\n")
    flags = flag_values(load_config([f"--config={file}"]))
    assert (flags["config"], flags["proxy-mode"], flags["kube-api-qps"]) == (str(file), "nftables", "7")
