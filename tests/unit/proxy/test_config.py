"""Flags and file of kube-proxy: defaults, precedence, what is refused and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.api_access import find_api, reads_directory
from proxy.config import ConfigError, ProxyConfig, load_config
from proxy.config_fields import BESIDE_CONFIG, BY_FLAG, BY_PATH, FIELDS, Kind, Use

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


def from_file(tmp_path: Path, text: str, *flags: str) -> ProxyConfig:
    path = tmp_path / "proxy.yaml"
    path.write_text(HEAD + text)
    return load_config([f"--config={path}", *flags])


def failure(tmp_path: Path, text: str, *flags: str) -> str:
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text, *flags)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_defaults_are_those_of_kube_proxy() -> None:
    config = load_config([])
    assert (config.healthz_bind, config.metrics_bind) == (("0.0.0.0", 10256), ("127.0.0.1", 10249))
    assert (config.sync_period_s, config.min_sync_period_s) == (30.0, 1.0)
    assert (config.masquerade_bit, config.masquerade_all, config.localhost_node_ports) == (14, False, True)
    assert (config.oom_score_adj, config.mode, config.detect_local_mode) == (-999, "iptables", "ClusterCIDR")
    assert config.conntrack.max_per_core == 32768
    assert config.conntrack.tcp_established_timeout_s == 86400.0
    assert str(config.manifest_dir) == "/etc/longshore/services"
    assert str(config.agent_socket) == "/var/lib/longshore/agent.sock"


def test_an_empty_file_gives_the_same_as_no_flags(tmp_path: Path) -> None:
    plain, filed = load_config([]), from_file(tmp_path, "")
    different = [name for name in plain.__slots__ if getattr(plain, name) != getattr(filed, name)]
    assert different == ["given", "config_file"]


def test_values_of_a_file(tmp_path: Path) -> None:
    config = from_file(
        tmp_path,
        "mode: iptables\nhostnameOverride: ' Node-A '\nclusterCIDR: 10.244.0.0/16,fd00::/64\n"
        "nodePortAddresses: [192.168.0.7/24]\niptables: {masqueradeAll: true, masqueradeBit: 3, syncPeriod: 1m, "
        "localhostNodePorts: false}\nconntrack: {maxPerCore: 0, tcpBeLiberal: true, udpTimeout: 10s}\n"
        "healthzBindAddress: 127.0.0.1\nmetricsBindAddress: '[::1]:9'\nlogging: {verbosity: 4}\noomScoreAdj: 0\n",
    )
    assert config.node_name == "node-a"
    assert config.cluster_cidrs == ("10.244.0.0/16", "fd00::/64")
    assert config.node_port_addresses == ("192.168.0.0/24",)
    assert (config.masquerade_all, config.masquerade_bit, config.sync_period_s) == (True, 3, 60.0)
    assert not config.localhost_node_ports
    assert (config.conntrack.max_per_core, config.conntrack.tcp_be_liberal) == (0, True)
    assert (config.healthz_bind, config.metrics_bind) == (("127.0.0.1", 10256), ("::1", 9))
    assert (config.verbosity, config.oom_score_adj) == (4, 0)


def test_flags_without_a_file() -> None:
    config = load_config(
        ["--masquerade-all", "--iptables-min-sync-period=0", "--cluster-cidr", "10.0.0.0/8", "-v", "2",
         "--nodeport-addresses=10.0.0.0/8,192.168.0.0/16", "--iptables-localhost-nodeports=false", "--healthz-port=0",
         "--metrics-bind-address=", "--agent-socket="]
    )  # fmt: skip
    assert config.masquerade_all
    assert config.min_sync_period_s == 0.0, "a flag means what it says, in a file zero is the same as absent"
    assert config.cluster_cidrs == ("10.0.0.0/8",)
    assert config.node_port_addresses == ("10.0.0.0/8", "192.168.0.0/16")
    assert not config.localhost_node_ports
    assert config.healthz_bind is None
    assert config.metrics_bind is None
    assert config.agent_socket is None
    assert config.verbosity == 2


def test_how_pods_are_told_and_what_is_ours_beside_a_file(tmp_path: Path) -> None:
    text = "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: cali}\n"
    labels = "--node-labels=topology.kubernetes.io/zone=z1,disk=ssd"
    config = from_file(tmp_path, text, labels, "--deny-service-external-ips")
    assert (config.detect_local_mode, config.pod_interface_prefix, config.pod_bridge) == (
        "InterfaceNamePrefix", "cali", "",
    )  # fmt: skip
    assert (config.zone, config.deny_external_ips, config.warnings) == ("z1", True, ())
    flags = load_config(["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0"])
    assert (flags.detect_local_mode, flags.pod_bridge) == ("BridgeInterface", "cni0")


def test_a_feature_gate_denies_external_ips(tmp_path: Path) -> None:
    given = [from_file(tmp_path, f"featureGates: {{AllowServiceExternalIPs: {text}}}\n") for text in ("true", "false")]
    given += [load_config([f"--feature-gates=MemoryQoS=true,AllowServiceExternalIPs={text}"]) for text in ("T", "0")]
    assert [one.deny_external_ips for one in (*given, load_config([]))] == [False, True, False, True, False]


def test_zero_periods_in_a_file_are_defaults(tmp_path: Path) -> None:
    config = from_file(tmp_path, "iptables: {syncPeriod: 0s, minSyncPeriod: 0s}\n")
    assert (config.sync_period_s, config.min_sync_period_s) == (30.0, 1.0)


def test_beside_a_file_only_some_flags_count_and_the_others_are_named(tmp_path: Path) -> None:
    config = from_file(
        tmp_path, "hostnameOverride: a\n", "--hostname-override=B", "-v=5", "--masquerade-all", "--manifest-dir=/x"
    )
    assert (config.node_name, config.verbosity, config.masquerade_all) == ("b", 5, False)
    assert str(config.manifest_dir) == "/x"
    assert len(config.warnings) == 1
    assert "--masquerade-all" in config.warnings[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iptabels: {}\n", "proxy.yaml:3: iptabels: unknown field, did you mean 'iptables'?"),
        (
            "iptables:\n  syncPeriode: 1s\n",
            "proxy.yaml:4: iptables.syncPeriode: unknown field, did you mean 'syncPeriod'?",
        ),
        ("iptables:\n  syncPeriod: 10\n", "proxy.yaml:4: iptables.syncPeriod: must be a duration such as 30s, not 10"),
        ("iptables:\n  syncPeriod: 10x\n", "proxy.yaml:4: iptables.syncPeriod: '10x' is not a duration"),
        ("iptables: {syncPeriod: -1s}\n", "proxy.yaml:3: iptables.syncPeriod: must not be negative"),
        (
            "iptables: {syncPeriod: 1s, minSyncPeriod: 2s}\n",
            "proxy.yaml:3: iptables.minSyncPeriod: minSyncPeriod (2 s)",
        ),
        ("iptables: {masqueradeBit: 32}\n", "proxy.yaml:3: iptables.masqueradeBit: must be between 0 and 31, not 32"),
        ("iptables: {masqueradeAll: 'yes'}\n", "proxy.yaml:3: iptables.masqueradeAll: must be true or false"),
        ("iptables: []\n", "proxy.yaml:3: iptables: must be a mapping"),
        ("mode: ipv\n", "proxy.yaml:3: mode: 'ipv' is no proxy mode, use 'nftables', 'iptables' or 'ipvs'"),
        ("ipvs: {scheduler: best}\n", "proxy.yaml:3: ipvs.scheduler: 'best' is no scheduler of IPVS; there are rr, "),
        ("ipvs: {excludeCIDRs: [10.0.0.1]}\n", "proxy.yaml:3: ipvs.excludeCIDRs: '10.0.0.1' is not a CIDR"),
        ("ipvs: {tcpTimeout: 100ms}\n", "proxy.yaml:3: ipvs.tcpTimeout: must be at least 1s"),
        ("ipvs: {udpTimeout: -1s}\n", "proxy.yaml:3: ipvs.udpTimeout: must not be negative"),
        ("mode: userspace\n", "proxy.yaml:3: mode: 'userspace' is gone"),
        ("mode: kernelspace\n", "proxy.yaml:3: mode: 'kernelspace' is for Windows"),
        ("mode: iptable\n", "proxy.yaml:3: mode: 'iptable' is no proxy mode"),
        ("clientConnection: {burst: -1}\n", "proxy.yaml:3: clientConnection.burst: must be between 0 and"),
        ("clientConnection: {qps: fast}\n", "proxy.yaml:3: clientConnection.qps: must be a number"),
        ("detectLocalMode: BridgeInterface\n", "proxy.yaml:3: detectLocalMode: BridgeInterface needs detectLocal.b"),
        (
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: a/b}\n",
            "proxy.yaml:4: detectLocal.interfaceNamePrefix: 'a/b' is not the name of an interface",
        ),
        ("detectLocalMode: Bridge\n", "proxy.yaml:3: detectLocalMode: 'Bridge' is not one of"),
        ("clusterCIDR: 10.0.0.1\n", "proxy.yaml:3: clusterCIDR: '10.0.0.1' is not a CIDR"),
        ("clusterCIDR: fd00::/64,fd01::/64\n", "proxy.yaml:3: clusterCIDR: must be one CIDR, or one of IPv4"),
        ("nodePortAddresses: [primary, 10.0.0.0/8]\n", "proxy.yaml:3: nodePortAddresses: 'primary' and CIDRs"),
        ("healthzBindAddress: 127.0.0.1:0\n", "proxy.yaml:3: healthzBindAddress: '127.0.0.1:0' is not an address"),
        ("healthzBindAddress: nowhere:1\n", "proxy.yaml:3: healthzBindAddress: 'nowhere:1' is not an address"),
        ("bindAddress: here\n", "proxy.yaml:3: bindAddress: 'here' is not an IP address"),
        ("oomScoreAdj: -1001\n", "proxy.yaml:3: oomScoreAdj: must be between -1000 and 1000"),
        ("featureGates: {Nope: false}\n", "proxy.yaml:3: featureGates: unrecognized feature gate: Nope"),
        ("featureGates: {AllBeta: true}\n", "proxy.yaml:3: featureGates: feature gate AllBeta cannot be true here"),
        ("featureGates: {A: 1}\n", "proxy.yaml:3: featureGates: must be a map of feature gates"),
        ("logging: {format: xml}\n", "proxy.yaml:3: logging.format: 'xml' is no log format, use 'text' or 'json'"),
        ("showHiddenMetricsForVersion: '1.34'\n", "proxy.yaml:3: showHiddenMetricsForVersion: must be 1.35"),
        ("mode: iptables\nmode: iptables\n", "proxy.yaml:4: key 'mode' appears twice"),
        ("a: [\n", "proxy.yaml:"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_line_and_field(tmp_path: Path, text: str, message: str) -> None:
    assert failure(tmp_path, text).startswith(message)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--iptables-sync-period=10", "flag --iptables-sync-period: '10' is not a duration"),
        ("--iptables-sync-period=0", "flag --iptables-sync-period: must be greater than 0"),
        ("--node-labels=zone", "flag --node-labels: 'zone' is not a label such as"),
        ("--master=x:6443", "flag --master: 'x:6443' is not a URL such as"),
        ("--kube-api-qps=fast", "flag --kube-api-qps: 'fast' is not a number"),
        ("--masquerade-all=perhaps", "flag --masquerade-all: must be true or false, not 'perhaps'"),
        ("--feature-gates=A=true,B", "flag --feature-gates: must be pairs such as AllowServiceExternalIPs=true, not "),
        ("--feature-gates=A=maybe", "flag --feature-gates: must be pairs such as AllowServiceExternalIPs=true, not "),
        ("--feature-gates=Nope=true", "flag --feature-gates: unrecognized feature gate: Nope"),
        (
            "--feature-gates=NFTablesProxyMode=false",
            "flag --feature-gates: cannot set feature gate NFTablesProxyMode to false, feature is locked to true",
        ),
        ("--oom-score-adj=x", "flag --oom-score-adj: 'x' is not a number"),
        ("--proxy-mod=iptables", "cannot read the command line: No such option '--proxy-mod'"),
        ("--config=/does/not/exist", "cannot read /does/not/exist: No such file or directory"),
        ("stray", "cannot read the command line: "),
    ],
)
def test_what_is_wrong_in_a_flag_is_said_with_its_name(flag: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([flag])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: KubeProxyConfiguration\n", "apiVersion: required field is missing"),
        ("apiVersion: v1\nkind: KubeProxyConfiguration\n", "apiVersion: must be kubeproxy.config.k8s.io/v1alpha1"),
        ("", "must hold one KubeProxyConfiguration, holds 0 documents"),
        (HEAD + "---\n" + HEAD, "must hold one KubeProxyConfiguration, holds 2 documents"),
        ("- a\n", "must hold one KubeProxyConfiguration"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config([f"--config={path}"])
    assert message in str(caught.value)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_end_well(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_config([flag])
    assert caught.value.code == 0
    assert "longshore-proxy" in capsys.readouterr().out


def test_every_refused_or_idle_field_says_why_and_each_appears_once() -> None:
    assert all(field.why for field in FIELDS if field.use is not Use.USED)
    assert len(BY_PATH) == sum(bool(field.path) for field in FIELDS)
    assert len(BY_FLAG) == sum(bool(field.flag) for field in FIELDS)
    assert set(BY_FLAG) >= BESIDE_CONFIG


@pytest.mark.parametrize("field", [f for f in FIELDS if f.use is Use.NO_EFFECT and f.path], ids=lambda f: f.path)
def test_fields_without_effect_are_accepted(tmp_path: Path, field: object) -> None:
    from proxy.config_fields import Field

    assert isinstance(field, Field)
    values = {
        Kind.STRING: "x", Kind.BOOL: "true", Kind.INT: "1", Kind.FLOAT: "1.5", Kind.DURATION: "1s",
        Kind.STRINGS: "[x]", Kind.GATES: "{A: true}", Kind.ANY: "{a: b}",
    }  # fmt: skip
    *groups, name = field.path.split(".")
    text = "".join(f"{{{group}: " if number else f"{group}: " for number, group in enumerate(groups))
    text += (f"{{{name}: {values[field.kind]}}}" if groups else f"{name}: {values[field.kind]}") + "}" * (
        len(groups) - 1
    )
    plain, filed = load_config([]), from_file(tmp_path, text + "\n")
    assert [name for name in plain.__slots__ if getattr(plain, name) != getattr(filed, name)] == [
        "given",
        "config_file",
    ]


KUBECONFIG = """\
current-context: c
contexts: [{name: c, context: {cluster: c, user: ""}}]
clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443"}}]
"""


def test_the_api_server_of_kubeconfig_flags_and_pod(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    text = f"clientConnection: {{kubeconfig: {kubeconfig}, qps: 2.5, burst: 7, contentType: application/x}}\n"
    path = tmp_path / "proxy.yaml"
    path.write_text(HEAD + text)
    config = load_config([f"--config={path}", "--master=https://a:1,https://b:2"])
    assert (config.api.qps, config.api.burst) == (2.5, 7)
    assert config.warnings == (
        f"{path}:3: clientConnection.contentType: the API server is asked for JSON, not for application/x",
    )
    found = find_api(config, {})
    assert found is not None
    assert found.servers == ("https://a:1", "https://b:2"), "--master counts beside --config, as for kube-proxy"
    by_flag = load_config([f"--kubeconfig={kubeconfig}"])
    server = find_api(by_flag, {})
    assert server is not None
    assert server.servers == ("https://10.0.0.1:6443",)
    assert not reads_directory(by_flag, server)
    assert reads_directory(load_config([f"--kubeconfig={kubeconfig}", "--manifest-dir=/x"]), server)
    assert reads_directory(load_config([]), find_api(load_config([]), {}))


def test_an_api_server_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.replace("https:", "ftp:"))
    with pytest.raises(ConfigError, match=r"kubeconfig:3: clusters\[0\].cluster.server: 'ftp:"):
        find_api(load_config([f"--kubeconfig={kubeconfig}"]), {})
    with pytest.raises(ConfigError, match="cannot read kubeconfig /does/not/exist: No such file"):
        find_api(load_config(["--kubeconfig=/does/not/exist"]), {})
    with pytest.raises(ConfigError, match="NodeCIDR needs the Node object of an API server"):
        find_api(load_config(["--detect-local-mode=NodeCIDR"]), {})
