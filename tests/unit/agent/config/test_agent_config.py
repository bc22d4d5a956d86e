"""Files and flags to AgentConfig: precedence, defaults, every kind of mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.config import AgentConfig, ConfigError, load_config
from agent.config_cluster import Taint
from agent.config_field import ConfigField, Use
from agent.config_fields import BY_FLAG, FIELDS, FLAGS
from agent.container_spec.facts import MemoryQos
from daemonkit.duration import parse_duration

ALLOWLISTED = "imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\n"
HEADER = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"


def load(tmp_path: Path, text: str, argv: Sequence[str] = ()) -> AgentConfig:
    path = tmp_path / "agent.yaml"
    path.write_text(HEADER + text)
    return load_config([f"--config={path}", *argv], host_name=lambda: "Host1")


def refusal(argv: Sequence[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(argv, host_name=lambda: "host1")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_the_kubelets() -> None:
    config = load_config([], host_name=lambda: " Node-1.Example\n")
    assert config.node_name == "node-1.example"
    assert config.root_dir == Path("/var/lib/longshore")
    assert config.api_socket == Path("/var/lib/longshore/agent.sock")
    assert config.static_pod_path is None
    assert config.file_check_frequency_s == 20
    assert config.runtime_request_timeout_s == 120
    assert config.max_pods == 110
    assert (config.healthz_bind_address, config.healthz_port) == ("127.0.0.1", 10248)
    assert config.resolv_conf == "/etc/resolv.conf"
    assert config.pod_logs_dir == Path("/var/log/pods")
    assert (config.cgroup_driver, config.cgroup_root) == ("cgroupfs", "/")
    assert config.serialize_image_pulls
    assert config.max_parallel_image_pulls is None
    assert config.crash_loop_max_s == 300
    assert not config.seccomp_default
    assert config.cpu_cfs_quota
    assert config.runtime_endpoint is None
    assert config.notes == ()


def test_a_flag_beats_the_file_and_the_file_beats_the_default(tmp_path: Path) -> None:
    text = "maxPods: 50\nclusterDNS: [10.0.0.10]\nserializeImagePulls: false\n"
    assert load(tmp_path, text).max_pods == 50
    config = load(tmp_path, text, ["--max-pods=7", "--cluster-dns=10.0.0.1,10.0.0.2", "--serialize-image-pulls"])
    assert config.max_pods == 7
    assert config.cluster_dns == ("10.0.0.1", "10.0.0.2")
    assert config.serialize_image_pulls
    assert load(tmp_path, text, ["--max-pods=110"]).max_pods == 110


def test_feature_gates_at_their_defaults_change_nothing_and_memory_qos_may_be_on(tmp_path: Path) -> None:
    text = "featureGates: {NodeSwap: true, SidecarContainers: true, AllAlpha: false, GitRepoVolumeDriver: false}\n"
    assert load(tmp_path, text).memory_qos is None
    on = "featureGates: {MemoryQoS: true}\nmemoryReservationPolicy: TieredReservation\nmemoryThrottlingFactor: 0.8\n"
    assert load(tmp_path, on).memory_qos == MemoryQos(0.8, tiered=True)
    assert load(tmp_path, "", ["--feature-gates=MemoryQoS=true,NodeSwap=true"]).memory_qos == MemoryQos(0.9)
    assert load(tmp_path, on[: on.index("memory")], ["--feature-gates=MemoryQoS=false"]).memory_qos is None
    assert load(tmp_path, on[: on.index("memory")], ["--feature-gates=NodeSwap=true"]).memory_qos == MemoryQos(0.9)
    assert "MemoryQoS" not in refusal(["--feature-gates=Nope=true"])
    assert "must be true or false, not 'maybe'" in refusal(["--feature-gates=MemoryQoS=maybe"])


def test_trust_bundles_may_be_projected_where_the_gate_is_on() -> None:
    assert not load_config([], host_name=lambda: "host1").cluster_trust_bundles
    flags = ["--feature-gates=ClusterTrustBundleProjection=true"]
    assert load_config(flags, host_name=lambda: "host1").cluster_trust_bundles


def test_everything_used_can_be_set_in_the_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"""staticPodPath: {tmp_path}
podLogsDir: /logs
fileCheckFrequency: 1m30s
healthzPort: 0
healthzBindAddress: "::1"
clusterDomain: cluster.local.
resolvConf: ""
cgroupRoot: /x/
cgroupDriver: systemd
runtimeRequestTimeout: 15s
maxParallelImagePulls: 4
seccompDefault: true
cpuCFSQuota: false
singleProcessOOMKill: true
containerRuntimeEndpoint: unix:///run/c.sock
imageServiceEndpoint: /run/i.sock
crashLoopBackOff: {{maxContainerRestartPeriod: 30s}}
logging: {{verbosity: 4}}
""",
    )
    assert config.static_pod_path == tmp_path
    assert config.pod_logs_dir == Path("/logs")
    assert config.file_check_frequency_s == 90
    assert config.healthz_port == 0
    assert config.cluster_domain == "cluster.local"
    assert config.resolv_conf == ""
    assert (config.cgroup_root, config.cgroup_driver) == ("/x", "systemd")
    assert (config.max_parallel_image_pulls, config.serialize_image_pulls) == (4, False)
    assert config.single_process_oom_kill is True
    assert (config.runtime_endpoint, config.image_endpoint) == ("unix:///run/c.sock", "/run/i.sock")
    assert config.crash_loop_max_s == 30
    assert config.verbosity == 4


def test_a_node_of_a_cluster_may_get_its_static_pods_later(tmp_path: Path) -> None:
    later = tmp_path / "manifests"
    flags = [f"--pod-manifest-path={later}", "--resolv-conf="]
    with pytest.raises(ConfigError, match=f"directory {later} does not exist"):
        load_config(flags)
    assert load_config([*flags, f"--kubeconfig={tmp_path / 'kubelet.conf'}"]).static_pod_path == later


def test_a_file_of_kubeadm_is_accepted_and_says_what_has_no_effect(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        f"""authentication:
  anonymous: {{enabled: false}}
  webhook: {{cacheTTL: 0s, enabled: true}}
  x509: {{clientCAFile: /etc/kubernetes/pki/ca.crt}}
authorization: {{mode: Webhook, webhook: {{cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}}}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {{}}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
logging:
  flushFrequency: 0
  options: {{json: {{infoBufferSize: "0"}}, text: {{infoBufferSize: "0"}}}}
  verbosity: 0
memorySwap: {{}}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: {tmp_path}
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
""",
    )
    assert config.file_check_frequency_s == 20
    assert config.runtime_request_timeout_s == 120
    assert any(
        note.startswith("rotateCertificates has no effect here: there is no API server") for note in config.notes
    )
    assert config.cluster.rotate


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("staticPodPth: /x\n", 3, "staticPodPth: unknown field, did you mean 'staticPodPath'?"),
        ("crashLoopBackOff:\n  maxRestart: 1s\n", 4, "crashLoopBackOff.maxRestart: unknown field"),
        ("maxPods: 3\nfileCheckFrequency: 20\n", 4, "fileCheckFrequency: must be a duration such as"),
        ("fileCheckFrequency: 20x\n", 3, "fileCheckFrequency: '20x' is not a duration"),
        ("fileCheckFrequency: -1s\n", 3, "fileCheckFrequency: must be at least 0.1 seconds"),
        ("staticPodPath: /does/not/exist\n", 3, "staticPodPath: directory /does/not/exist does not exist"),
        ("staticPodPath: /etc/passwd\n", 3, "staticPodPath: /etc/passwd is not a directory"),
        ("staticPodPath: manifests\n", 3, "staticPodPath: 'manifests' must be an absolute path"),
        ("resolvConf: /does/not/exist\n", 3, "resolvConf: file /does/not/exist does not exist"),
        ("maxPods: many\n", 3, "maxPods: must be an integer, not 'many'"),
        ("maxPods: true\n", 3, "maxPods: must be an integer, not True"),
        ("maxPods: -1\n", 3, "maxPods: must be at least 1"),
        ("healthzPort: 70000\n", 3, "healthzPort: must be at most 65535"),
        ("healthzBindAddress: here\n", 3, "healthzBindAddress: 'here' is not an IP address"),
        ("seccompDefault: 'yes'\n", 3, "seccompDefault: must be true or false, not 'yes'"),
        ("clusterDNS: 10.0.0.10\n", 3, "clusterDNS: must be a list of strings"),
        ("clusterDNS: [ten]\n", 3, "clusterDNS: 'ten' is not an IP address"),
        ("clusterDomain: Cluster_Local\n", 3, "clusterDomain: "),
        ("cgroupDriver: cgroups\n", 3, "cgroupDriver: must be one of cgroupfs, systemd"),
        ("containerRuntimeEndpoint: tcp://1.2.3.4:5\n", 3, "containerRuntimeEndpoint: "),
        ("registerWithTaints: [{key: a, effect: Never}]\n", 3, "registerWithTaints: effect of taint a: must be one of"),
        ("registerWithTaints: [{key: a, timeAdded: x}]\n", 3, "a taint has key, value and effect, not timeAdded"),
        ("registerWithTaints: [{value: a}]\n", 3, "registerWithTaints: key of a taint: must not be empty"),
        ("registerWithTaints: [7]\n", 3, "registerWithTaints: must be a list of taints"),
        ("nodeLeaseDurationSeconds: -1\n", 3, "nodeLeaseDurationSeconds: must be at least 1"),
        ("evictionHard: {memory.available: 5%}\n", 3, "evictionHard: eviction is not supported yet"),
        ("cgroupsPerQOS: false\n", 3, "cgroupsPerQOS: not supported yet"),
        ("imageGCHighThresholdPercent: 0\n", 3, "imageGCHighThresholdPercent: image garbage collection"),
        ("featureGates: {NodeSwp: true}\n", 3, "featureGates: unrecognized feature gate: NodeSwp"),
        ("featureGates: {NodeSwp: false}\n", 3, "featureGates: unrecognized feature gate: NodeSwp"),
        (
            "featureGates: {SidecarContainers: false}\n",
            3,
            "featureGates: cannot set feature gate SidecarContainers to false, feature is locked to true",
        ),
        (
            "featureGates: {KubeletCrashLoopBackOffMax: false}\n",
            3,
            "featureGates: feature gate KubeletCrashLoopBackOffMax cannot be false here: not supported yet",
        ),
        (
            "featureGates: {AllAlpha: true}\n",
            3,
            "featureGates: feature gate AllAlpha cannot be true here: not supported yet",
        ),
        ("featureGates: {NodeSwap: 1}\n", 3, "featureGates: NodeSwap must be true or false, not 1"),
        ("featureGates: NodeSwap\n", 3, "featureGates: must be a mapping, not 'NodeSwap'"),
        ("memoryThrottlingFactor: 0\n", 3, "memoryThrottlingFactor: must be greater than 0"),
        (
            "memoryThrottlingFactor: 1.5\n",
            3,
            "must be greater than 0 and less than or equal to 1",
        ),
        (
            "memoryReservationPolicy: TieredReservation\n",
            3,
            "memoryReservationPolicy: needs the feature gate MemoryQoS",
        ),
        ("imagePullCredentialsVerificationPolicy: Never\n", 3, "must be one of NeverVerify, "),
        (
            "preloadedImagesVerificationAllowlist: [a]\n",
            3,
            "counts only with imagePullCredentialsVerificationPolicy NeverVerifyAllowlistedImages",
        ),
        (
            "preloadedImagesVerificationAllowlist: ['a:1']\n" + ALLOWLISTED,
            3,
            "preloadedImagesVerificationAllowlist: neither tag nor digest is accepted in an image reference: 'a:1'",
        ),
        ("serializeImagePulls: true\nmaxParallelImagePulls: 2\n", 4, "maxParallelImagePulls: must not be more than 1"),
        ("crashLoopBackOff: {maxContainerRestartPeriod: 10m}\n", 3, "must be at most 300 seconds"),
        ("crashLoopBackOff: []\n", 3, "crashLoopBackOff: must be a mapping, not []"),
        ("healthzBindAddress: ','\n", 3, "healthzBindAddress: must be one IP address, not ','"),
        ("maxPods: 3\nmaxPods: 4\n", 4, "appears twice"),
        ("a: [\n", 4, "not valid YAML"),
        ("---\na: 1\n", 4, "holds 2 documents"),
    ],
)
def test_mistakes_in_the_file_name_line_and_field(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(HEADER + text)
    shown = refusal([f"--config={path}"])
    assert shown.startswith(f"cannot read {path}:{line}: "), shown
    assert message in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file is empty"),
        ("- a\n", "is not a KubeletConfiguration"),
        ("kind: KubeletConfiguration\n", "apiVersion: required field is missing"),
        ("apiVersion: v1\nkind: KubeletConfiguration\n", "apiVersion: must be kubelet.config.k8s.io/v1beta1, not 'v1'"),
        ("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: Pod\n", "kind: must be KubeletConfiguration, not 'Pod'"),
        ("\x00", "not a text file"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(text)
    assert message in refusal([f"--config={path}"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(["--config=/does/not/exist"]) == "cannot read /does/not/exist: No such file or directory"
    assert refusal([f"--config={tmp_path}"]) == f"cannot read {tmp_path}: Is a directory"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max-podz=3"], "cannot read flag --max-podz: unknown flag, did you mean '--max-pods'?"),
        (["--max-pods=x"], "cannot read flag --max-pods: must be an integer, not 'x'"),
        (["--max-pods"], "requires an argument"),
        (["--max-pods=0"], "cannot read flag --max-pods: must be at least 1"),
        (["--cgroups-per-qos=false"], "cannot read flag --cgroups-per-qos: not supported yet"),
        (["--seccomp-default=maybe"], "cannot read flag --seccomp-default: must be true or false, not 'maybe'"),
        (["--runtime-request-timeout=2"], "cannot read flag --runtime-request-timeout: '2' is not a duration"),
        (["--kubeconfig=kubeconfig"], "cannot read flag --kubeconfig: 'kubeconfig' must be an absolute path"),
        (["--bootstrap-kubeconfig=/x"], "cannot read flag --bootstrap-kubeconfig: needs --kubeconfig"),
        (["--tls-cert-file=/x"], "cannot read flag --tls-cert-file: tlsCertFile and tlsPrivateKeyFile need each other"),
        (["--client-ca-file=/no/such", "--kubeconfig=/k"], "cannot read flag --client-ca-file: file /no/such does not"),
        (["--tls-cipher-suites=TLS_RSA_WITH_RC4_128_SHA"], "cannot read flag --tls-cipher-suites: 'TLS_RSA_WITH_RC4_"),
        (["--tls-min-version=VersionTLS11"], "cannot read flag --tls-min-version: must be one of"),
        (["--anonymous-auth=true"], "cannot read flag --anonymous-auth: nobody is answered whose name is not known"),
        (["--read-only-port=10255"], "cannot read flag --read-only-port: not supported yet"),
        (["--cloud-provider=aws"], "cannot read flag --cloud-provider: must be one of \"\", external, not 'aws'"),
        (["--register-with-taints=a=b"], "cannot read flag --register-with-taints: 'a=b' must be KEY=VALUE:EFFECT"),
        (["--register-with-taints=a:Never"], "effect of taint a: must be one of NoSchedule"),
        (["--register-with-taints=a:NoExecute,a=1:NoExecute"], "a:NoExecute stands there twice"),
        (
            ["--node-labels=kubernetes.io/role=master"],
            "a node may only set those that begin with kubelet.kubernetes.io",
        ),
        (["--node-labels=node-restriction.kubernetes.io/a=b"], "node-restriction.kubernetes.io/a: of the labels of"),
        (["--pod-infra-container-image=pause"], "removed in Kubernetes 1.35"),
        (["--node-ip=one"], "cannot read flag --node-ip: 'one' is not an IP address"),
        (["--node-ip=10.0.0.1,10.0.0.2"], "must be one address, or one of each family"),
        (["--node-labels=a b=c"], "cannot read flag --node-labels: "),
        (["--node-labels=a"], "must be NAME=VALUE pairs, not 'a'"),
        (["--hostname-override=a_b"], "cannot read flag --hostname-override: as the node's name it"),
        (["--root-dir=here"], "cannot read flag --root-dir: 'here' must be an absolute path"),
        (["--pod-manifest-path=/does/not/exist"], "cannot read flag --pod-manifest-path: directory"),
        (["--root-dir="], "cannot read flag --root-dir: must be an absolute path, not empty"),
        (["--healthz-bind-address="], "cannot read flag --healthz-bind-address: must be one IP address"),
        (["--healthz-bind-address=10.0.0.1,10.0.0.2"], "must be one IP address"),
        (["manifests"], "unexpected extra argument"),
    ],
)
def test_mistakes_in_flags(argv: list[str], message: str) -> None:
    assert message in refusal(argv)


def test_a_host_name_that_is_no_node_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="host name"):
        load_config([], host_name=lambda: "my_host")


def test_flags_only() -> None:
    argv = ["-v", "3", "--node-ip=10.0.0.1,fd00::1", "--node-labels=a=b,c=", "--root_dir=/x/", "--hostname-override=N2"]
    config = load_config(argv)
    assert config.verbosity == 3
    assert config.node_ip == "10.0.0.1,fd00::1"
    assert config.node_ips == ("10.0.0.1", "fd00::1")
    assert config.node_labels == {"a": "b", "c": ""}
    assert (config.root_dir, config.api_socket) == (Path("/x"), Path("/x/agent.sock"))
    assert config.node_name == "n2"


def test_a_flag_without_effect_is_accepted_and_noted() -> None:
    flags = ["--register-node=false", "--port=1234", "--hairpin-mode=none"]
    config = load_config(flags)
    assert sorted(note.split()[0] for note in config.notes) == ["hairpinMode", "port", "registerNode"]
    joined = load_config([*flags, "--kubeconfig=/etc/kubeconfig"])
    assert [note.split()[0] for note in joined.notes] == ["hairpinMode"]
    assert joined.cluster.server.port == 1234


def test_how_the_node_joins_a_cluster(tmp_path: Path) -> None:
    alone = load_config([]).cluster
    assert (alone.kubeconfig, alone.register_node, alone.lease_duration_s) == (None, True, 40)
    assert (alone.status_update_s, alone.status_report_s, alone.max_images) == (10, 300, 50)
    assert (alone.qps, alone.burst, alone.attach_detach, alone.external_cloud) == (50, 100, True, False)
    text = """registerWithTaints:
- {key: example.com/a, value: b, effect: NoSchedule}
- {key: c, effect: NoExecute}
providerID: lab://1
nodeLeaseDurationSeconds: 8
nodeStatusUpdateFrequency: 2s
kubeAPIQPS: 0
"""
    config = load(tmp_path, text, ["--kubeconfig=/k", "--cloud-provider=external"])
    cluster = config.cluster
    assert cluster.taints == (Taint("example.com/a", "b", "NoSchedule"), Taint("c", "", "NoExecute"))
    assert (cluster.kubeconfig, cluster.external_cloud, cluster.provider_id) == (Path("/k"), True, "lab://1")
    assert (cluster.lease_duration_s, cluster.qps, config.notes) == (8, 0, ())
    assert (cluster.status_update_s, cluster.status_report_s) == (2, 2), "as in the kubelet"
    flags = ["--kubeconfig=/k", "--register-with-taints=d=e:PreferNoSchedule", "--node-status-update-frequency=3s"]
    cluster = load_config(flags).cluster
    assert (cluster.taints, cluster.status_report_s) == ((Taint("d", "e", "PreferNoSchedule"),), 300)


def test_hosts_with_cgroup_v1_or_swap_are_refused_unless_the_configuration_allows_them() -> None:
    config = load_config([])
    assert (config.fail_cgroup_v1, config.fail_swap_on) == (True, True)
    config = load_config(["--fail-cgroupv1=false", "--fail-swap-on=false"])
    assert (config.fail_cgroup_v1, config.fail_swap_on) == (False, False)


BY_PRIORITY = "shutdownGracePeriodByPodPriority:\n- {priority: 10, shutdownGracePeriodSeconds: 5}\n"


@pytest.mark.parametrize(
    ("text", "periods"),
    [
        ("", []),
        ("shutdownGracePeriod: 0s\nshutdownGracePeriodByPodPriority: []\n", []),
        ("shutdownGracePeriod: 30s\n", [(0, 30), (2_000_000_000, 0)]),
        ("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s\n", [(0, 20), (2_000_000_000, 10)]),
        (BY_PRIORITY + "- {priority: 0, shutdownGracePeriodSeconds: 7}\n", [(0, 7), (10, 5)]),
    ],
)
def test_the_grace_periods_of_a_shutdown(tmp_path: Path, text: str, periods: list[tuple[int, float]]) -> None:
    assert [(one.priority, one.period_s) for one in load(tmp_path, text).shutdown_periods] == periods


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shutdownGracePeriod: 500ms\n", "3: shutdownGracePeriod: must be at least 1 seconds, not 0.5"),
        (
            "shutdownGracePeriodCriticalPods: 10s\n",
            "3: shutdownGracePeriodCriticalPods: must not be more than shutdownGracePeriod (0 s)",
        ),
        (
            BY_PRIORITY + "shutdownGracePeriod: 30s\n",
            "3: shutdownGracePeriodByPodPriority: must not be set together with shutdownGracePeriod",
        ),
        (
            BY_PRIORITY.replace("5", "-5"),
            "3: shutdownGracePeriodByPodPriority: [0].shutdownGracePeriodSeconds: must be an integer from 0 to 86400",
        ),
        ("shutdownGracePeriodByPodPriority: 5\n", "3: shutdownGracePeriodByPodPriority: must be a list, not 5"),
    ],
)
def test_wrong_grace_periods_of_a_shutdown(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(HEADER + text)
    assert f"{path}:{message}" in refusal([f"--config={path}"])


@pytest.mark.parametrize("flag", ["--version", "--help", "-h"])
def test_version_and_help_end_the_program_well(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_config([flag])
    assert caught.value.code == 0
    assert "longshore-agent" in capsys.readouterr().out


@pytest.mark.parametrize("field", [*FIELDS.values(), *FLAGS.values()], ids=lambda field: field.name)
def test_each_row_of_the_table_is_sound(field: ConfigField) -> None:
    kinds = {"string": str, "bool": bool, "int": int, "float": float, "strings": tuple, "list": tuple, "map": dict}
    if field.kind == "duration":
        assert isinstance(field.default, str)
        parse_duration(field.default)
    elif field.default is not None and field.kind in kinds:
        assert isinstance(field.default, kinds[field.kind])
    assert field.use is not Use.WITHOUT_EFFECT or field.note
    assert not field.choices or field.default in field.choices
    assert re.fullmatch(r"[a-z0-9-]*", field.flag)
    assert not field.flag or BY_FLAG[field.flag] is field


def test_the_document_lists_every_field_and_flag_with_its_verdict() -> None:
    text = (Path(__file__).parents[4] / "docs" / "agent-configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \|(.*)\|$", text, re.MULTILINE))
    assert rows.keys() == FIELDS.keys() | {f"--{flag}" for flag in FLAGS}
    for name, field in [*FIELDS.items(), *((f"--{flag}", one) for flag, one in FLAGS.items())]:
        assert field.use.value in rows[name], name
        assert field.note in rows[name], name
        if field.flag and name in FIELDS:
            assert f"`--{field.flag}`" in rows[name], name
