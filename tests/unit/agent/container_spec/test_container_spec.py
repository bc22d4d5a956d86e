"""Pod to CRI messages where a manifest case cannot show it: edges, errors, stability."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightkube.models import core_v1, meta_v1

from agent.container_spec import labels
from agent.container_spec.container import container_config, image_user_of
from agent.container_spec.dns import hosts_file, kernel_hostname, parse_resolv_conf, pod_dns
from agent.container_spec.env import expand
from agent.container_spec.facts import HandlerFacts, ImageUser, MemoryQos, NodeFacts, SpecError, SpecFacts
from agent.container_spec.hashing import container_hash
from agent.container_spec.pod_resources import qos_class
from agent.container_spec.resources import container_resources, cpu_quota_us, cpu_shares, oom_score_adj
from agent.container_spec.sandbox import port_mappings, sandbox_config
from cri_client import types as cri

NODE = NodeFacts(node_name="node1", node_ips=("192.168.0.5", "fd00::5"), memory_bytes=1 << 30, cpu_milli=2000)
FACTS = SpecFacts(node=NODE, pod_ips=("10.1.0.2", "fd01::2"))
CLUSTER = ("default.svc.c", "svc.c", "c", "host")


def make_pod(**spec: object) -> core_v1.Pod:
    containers = spec.pop("containers", [core_v1.Container(name="main", image="web:1")])
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="web-node1", namespace="default", uid="u1"),
        spec=core_v1.PodSpec(containers=containers, **spec),
    )


def make_container(**fields: object) -> core_v1.Container:
    return core_v1.Container(**{"name": "main", "image": "web:1", **fields})


def resources(limits: dict[str, str] | None = None, requests: dict[str, str] | None = None) -> core_v1.Container:
    return make_container(resources=core_v1.ResourceRequirements(limits=limits, requests=requests))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(C)", "$(C)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("$", "$"),
        ("$()", "$()"),
        ("$(A)$", "1$"),
        ("$((A))", "$((A))"),
        ("$(ref)", "$(A)"),
    ],
)
def test_expansion(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2", "ref": "$(A)"}) == expanded


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_text_without_a_dollar_is_never_changed(text: str) -> None:
    plain = text.replace("$", "")
    assert expand(plain, {"A": "1"}) == plain


def test_a_field_that_is_not_known_is_an_error_that_names_it() -> None:
    source = core_v1.EnvVarSource(fieldRef=core_v1.ObjectFieldSelector(fieldPath="status.phase"))
    container = make_container(env=[core_v1.EnvVar(name="A", valueFrom=source)])
    with pytest.raises(SpecError, match=r"status\.phase"):
        container_config(make_pod(), container, 0, FACTS, {})


def test_addresses_of_pod_and_host() -> None:
    paths = ("status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs")
    container = make_container(
        env=[
            core_v1.EnvVar(
                name=path, valueFrom=core_v1.EnvVarSource(fieldRef=core_v1.ObjectFieldSelector(fieldPath=path))
            )
            for path in paths
        ]
    )
    config = container_config(make_pod(), container, 0, FACTS, {})
    assert [one.value for one in config.envs] == ["10.1.0.2", "10.1.0.2,fd01::2", "192.168.0.5", "192.168.0.5,fd00::5"]


@pytest.mark.parametrize(
    ("resource", "divisor", "expected"),
    [
        ("limits.cpu", None, "2"),
        ("limits.cpu", "1m", "2000"),
        ("limits.memory", "1Mi", "1024"),
        ("requests.memory", None, "0"),
        ("requests.cpu", "1m", "250"),
        ("requests.cpu", None, "1"),
    ],
)
def test_resource_fields(resource: str, divisor: str | None, expected: str) -> None:
    reference = core_v1.ResourceFieldSelector(resource=resource, divisor=divisor)
    container = make_container(
        resources=core_v1.ResourceRequirements(requests={"cpu": "250m"}),
        env=[core_v1.EnvVar(name="A", valueFrom=core_v1.EnvVarSource(resourceFieldRef=reference))],
    )
    assert container_config(make_pod(), container, 0, FACTS, {}).envs[0].value == expected


@pytest.mark.parametrize(("milli", "shares"), [(0, 2), (1, 2), (100, 102), (1000, 1024), (10**9, 262144)])
def test_cpu_shares(milli: int, shares: int) -> None:
    assert cpu_shares(milli) == shares


@pytest.mark.parametrize(("milli", "quota"), [(0, 0), (1, 1000), (10, 1000), (100, 10000), (2500, 250000)])
def test_cpu_quota(milli: int, quota: int) -> None:
    assert cpu_quota_us(milli, 100_000) == quota


@pytest.mark.parametrize(
    ("container", "quality", "score"),
    [
        (make_container(), "BestEffort", 1000),
        (resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}), "Guaranteed", -997),
        (resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1024Mi"}), "Guaranteed", -997),
        (resources(None, {"cpu": "1m"}), "Burstable", 999),
        (resources(None, {"memory": "512Mi"}), "Burstable", 500),
        (resources(None, {"memory": "2Gi"}), "Burstable", 3),
        (resources({"memory": "1Gi"}, {"memory": "1Gi"}), "Burstable", 3),
        (resources({"cpu": "0"}, None), "BestEffort", 1000),
    ],
)
def test_qos_class_and_oom_score(container: core_v1.Container, quality: str, score: int) -> None:
    pod = make_pod(containers=[container])
    assert qos_class(pod) == quality
    assert oom_score_adj(pod, container, 1 << 30) == score


def test_an_init_container_without_resources_makes_a_guaranteed_pod_burstable() -> None:
    guaranteed = resources({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"})
    assert qos_class(make_pod(containers=[guaranteed], initContainers=[make_container()])) == "Burstable"


def test_swap_and_oom_group_by_cgroup_version() -> None:
    container = resources({"memory": "64Mi"}, None)
    expected: dict[int, tuple[dict[str, str], int]] = {
        1: ({}, 64 << 20),
        2: ({"memory.oom.group": "1", "memory.swap.max": "0"}, 0),
    }
    for version, (unified, swap_bytes) in expected.items():
        node = NodeFacts(node_name="n", memory_bytes=1 << 30, cgroup_version=version, swap_controller=True)
        config = container_config(make_pod(), container, 0, SpecFacts(node=node), {})
        assert config.linux is not None
        assert config.linux.resources is not None
        assert dict(config.linux.resources.unified) == unified
        assert config.linux.resources.memory_swap_limit_in_bytes == swap_bytes


def test_huge_pages_are_limited_to_zero_unless_asked_for() -> None:
    node = NodeFacts(node_name="n", memory_bytes=1 << 30, hugepage_sizes=("2MB", "1GB"))
    config = container_config(make_pod(), resources({"hugepages-2Mi": "4Mi"}), 0, SpecFacts(node=node), {})
    assert config.linux is not None
    assert config.linux.resources is not None
    limits = {limit.page_size: limit.limit for limit in config.linux.resources.hugepage_limits}
    assert limits == {"2MB": 4 << 20, "1GB": 0}


def test_container_hash_is_the_kubelets() -> None:
    """The value is what k8s.io/kubernetes 1.36 computes for this name and image."""
    assert container_hash(make_container(env=[core_v1.EnvVar(name="A", value="1")])) == "23a68fbe"


def test_identity_survives_the_round_trip_through_the_runtime() -> None:
    pod = make_pod(terminationGracePeriodSeconds=7)
    config = container_config(pod, make_container(terminationMessagePath="/x"), 4, FACTS, {})
    identity = labels.parse_identity(config.labels, config.annotations)
    assert identity == labels.Identity(
        pod_uid="u1",
        pod_name="web-node1",
        pod_namespace="default",
        container="main",
        restart_count=4,
        container_hash=container_hash(make_container()),
        grace_s=7,
        termination_message_path="/x",
        termination_message_policy="",
    )
    sandbox = sandbox_config(pod, 0, FACTS)
    of_sandbox = labels.parse_identity(sandbox.labels, sandbox.annotations)
    assert of_sandbox is not None
    assert of_sandbox.container == ""


def test_labels_of_others_are_no_identity_and_broken_annotations_are_survived() -> None:
    assert labels.parse_identity({"app": "x"}, {}) is None
    mine = {labels.POD_UID: "u", labels.POD_NAME: "n", labels.POD_NAMESPACE: "s"}
    identity = labels.parse_identity(mine, {labels.CONTAINER_RESTART_COUNT: "many"})
    assert identity is not None
    assert identity.restart_count == 0
    assert identity.grace_s is None


def test_a_labels_of_the_pod_cannot_pretend_to_be_another_pod() -> None:
    pod = make_pod()
    assert pod.metadata is not None
    pod.metadata.labels = {labels.POD_UID: "other", "app": "web"}
    assert sandbox_config(pod, 0, FACTS).labels[labels.POD_UID] == "u1"


@pytest.mark.parametrize(
    ("own", "of_pod", "image", "problem"),
    [
        ({}, {}, ImageUser(uid=0), None),
        ({"runAsNonRoot": True}, {}, ImageUser(uid=0), "image will run as root"),
        ({"runAsNonRoot": True}, {}, ImageUser(uid=5), None),
        ({"runAsNonRoot": True}, {}, ImageUser(username="web"), "non-numeric user (web)"),
        ({"runAsNonRoot": True, "runAsUser": 0}, {}, ImageUser(uid=5), "breaks non-root policy"),
        ({"runAsNonRoot": True}, {"runAsUser": 3}, ImageUser(uid=0), None),
        ({}, {"runAsNonRoot": True}, ImageUser(uid=0), "image will run as root"),
        ({"runAsNonRoot": False}, {"runAsNonRoot": True}, ImageUser(uid=0), None),
    ],
)
def test_run_as_non_root(
    own: dict[str, object], of_pod: dict[str, object], image: ImageUser, problem: str | None
) -> None:
    context = core_v1.SecurityContext(**own)
    pod = make_pod(securityContext=core_v1.PodSecurityContext(**of_pod))
    container = make_container(securityContext=context)
    if problem is None:
        container_config(pod, container, 0, FACTS, {}, image_user=image)
    else:
        with pytest.raises(SpecError) as caught:
            container_config(pod, container, 0, FACTS, {}, image_user=image)
        assert problem in str(caught.value)
        assert caught.value.reason == "CreateContainerConfigError"


def test_the_user_of_the_image_is_sent_when_the_pod_names_none() -> None:
    for image, uid, username in (
        (cri.Image(uid=cri.Int64Value(value=101)), 101, ""),
        (cri.Image(username="web"), None, "web"),
        (cri.Image(), 0, ""),
    ):
        config = container_config(make_pod(), make_container(), 0, FACTS, {}, image_user=image_user_of(image))
        assert config.linux is not None
        context = config.linux.security_context
        assert context is not None
        assert (context.run_as_user.value if context.run_as_user else None) == uid
        assert context.run_as_username == username


def test_a_mount_of_a_volume_that_is_not_ready_is_an_error() -> None:
    container = make_container(volumeMounts=[core_v1.VolumeMount(name="data", mountPath="data")])
    with pytest.raises(SpecError, match='volume "data"'):
        container_config(make_pod(), container, 0, FACTS, {})
    mount = container_config(make_pod(), container, 0, FACTS, {"data": "/v"}).mounts[0]
    assert (mount.container_path, mount.host_path) == ("/data", "/v")


@pytest.mark.parametrize(("wanted", "able", "made"), [
    ("Disabled", True, False), ("IfPossible", True, True), ("IfPossible", False, False), ("Enabled", True, True),
])  # fmt: skip
def test_recursive_read_only(wanted: str, able: bool, made: bool) -> None:
    facts = SpecFacts(node=NODE, handler=HandlerFacts(recursive_read_only=able))
    mount = core_v1.VolumeMount(name="data", mountPath="/data", readOnly=True, recursiveReadOnly=wanted)
    config = container_config(make_pod(), make_container(volumeMounts=[mount]), 0, facts, {"data": "/v"})
    assert (config.mounts[0].readonly, config.mounts[0].recursive_read_only) == (True, made)


def test_etc_hosts_is_left_to_a_volume_mounted_there_and_to_a_pod_without_address() -> None:
    own = make_container(volumeMounts=[core_v1.VolumeMount(name="h", mountPath="/etc/hosts")])
    paths = [mount.host_path for mount in container_config(make_pod(), own, 0, FACTS, {"h": "/v"}).mounts]
    assert paths == ["/v"]
    assert container_config(make_pod(), make_container(), 0, SpecFacts(node=NODE), {}).mounts == ()


def test_resolv_conf_is_read_as_resolvers_read_it() -> None:
    text = "# x\nnameserver 1.1.1.1\nsearch old\noptions ndots:2 rotate\n nameserver 9.9.9.9 # no\nsearch a. . b\n"
    text += "options ndots:3\n"
    assert parse_resolv_conf(text) == cri.DNSConfig(
        servers=("1.1.1.1", "9.9.9.9"), searches=("a", "b"), options=("ndots:3", "rotate")
    )


@pytest.mark.parametrize(
    ("spec", "servers", "searches"),
    [
        ({"dnsPolicy": "ClusterFirst"}, ("10.96.0.10",), CLUSTER),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, ("1.1.1.1",), ("host",)),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, ("10.96.0.10",), CLUSTER),
        ({"dnsPolicy": "Default"}, ("1.1.1.1",), ("host",)),
        ({"dnsPolicy": "None", "dnsConfig": core_v1.PodDNSConfig(nameservers=["8.8.8.8"])}, ("8.8.8.8",), ()),
    ],
)  # fmt: skip
def test_dns_policies(spec: dict[str, object], servers: tuple[str, ...], searches: tuple[str, ...]) -> None:
    node = NodeFacts(node_name="n", resolv_conf="nameserver 1.1.1.1\nsearch host\n")
    dns = pod_dns(make_pod(**spec), SpecFacts(node=node, cluster_dns=("10.96.0.10",), cluster_domain="c"))
    assert (dns.servers, dns.searches) == (servers, searches)


def test_without_a_resolver_file_pods_ask_themselves() -> None:
    node = NodeFacts(node_name="n", node_ips=("10.0.0.1", "fd00::1"), resolv_conf=None)
    assert pod_dns(make_pod(), SpecFacts(node=node)) == cri.DNSConfig(servers=("127.0.0.1", "::1"), searches=(".",))


def test_dns_config_is_added_and_the_limits_of_resolvers_hold() -> None:
    extra = core_v1.PodDNSConfig(
        nameservers=["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"],
        searches=[f"{'a' * 60}{number}.b" for number in range(40)],
        options=[core_v1.PodDNSConfigOption(name="ndots", value="1"), core_v1.PodDNSConfigOption(name="edns0")],
    )
    node = NodeFacts(node_name="n", resolv_conf="nameserver 1.1.1.1\noptions ndots:5\n")
    dns = pod_dns(make_pod(dnsPolicy="Default", dnsConfig=extra), SpecFacts(node=node))
    assert dns.servers == ("1.1.1.1", "2.2.2.2", "3.3.3.3")
    assert len(" ".join(dns.searches)) <= 2048
    assert dns.searches
    assert dns.options == ("ndots:1", "edns0")


def test_host_names() -> None:
    facts = SpecFacts(node=NODE, cluster_domain="c", pod_ips=("10.1.0.2",))
    long_name = make_pod()
    assert long_name.metadata is not None
    long_name.metadata.name = "a" * 62 + "-" + "b" * 20
    assert kernel_hostname(long_name, facts) == "a" * 62
    named = make_pod(hostname="h", subdomain="s", setHostnameAsFQDN=True)
    assert kernel_hostname(named, facts) == "h.s.default.svc.c"
    too_long = make_pod(hostname="h" * 60, subdomain="s", setHostnameAsFQDN=True)
    with pytest.raises(SpecError, match="64"):
        kernel_hostname(too_long, facts)


def test_hosts_file() -> None:
    aliases = [core_v1.HostAlias(ip="1.2.3.4", hostnames=["a", "b"])]
    facts = SpecFacts(node=NODE, cluster_domain="c", pod_ips=("10.1.0.2",))
    text = hosts_file(make_pod(hostname="h", subdomain="s", hostAliases=aliases), facts)
    assert text.splitlines()[0] == "# Kubernetes-managed hosts file."
    assert "10.1.0.2\th.s.default.svc.c\th" in text.splitlines()
    assert text.endswith("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")
    host = hosts_file(make_pod(hostNetwork=True), FACTS, "127.0.0.1 localhost\n")
    assert host == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"


def test_a_port_named_twice_in_one_container_is_mapped_once() -> None:
    ports = [core_v1.ContainerPort(containerPort=80, protocol="TCP")] * 2
    assert len(port_mappings(make_pod(containers=[make_container(ports=ports)]))) == 1


def test_unmasked_and_thermal_paths() -> None:
    node = NodeFacts(node_name="n", thermal_throttle_paths=("/sys/devices/system/cpu/cpu0/thermal_throttle",))
    config = container_config(make_pod(), make_container(), 0, SpecFacts(node=node), {})
    assert config.linux is not None
    assert config.linux.security_context is not None
    masked = config.linux.security_context.masked_paths
    assert "/proc/kcore" in masked
    assert masked[-1].endswith("cpu0/thermal_throttle")
    assert "/proc/sys" in config.linux.security_context.readonly_paths


def test_seccomp_default_of_the_node() -> None:
    for default, kind in ((True, cri.ProfileType.RuntimeDefault), (False, cri.ProfileType.Unconfined)):
        facts = SpecFacts(node=NODE, seccomp_default=default)
        config = container_config(make_pod(), make_container(), 0, facts, {})
        assert config.linux is not None
        assert config.linux.security_context is not None
        assert config.linux.security_context.seccomp == cri.SecurityProfile(profile_type=kind)


def test_a_sidecar_does_not_die_before_those_it_serves() -> None:
    small, large = resources(None, {"memory": "128Mi"}), resources(None, {"memory": "512Mi"})
    sidecar = make_container(name="side", restartPolicy="Always")
    pod = make_pod(containers=[small, large], initContainers=[sidecar])
    assert oom_score_adj(pod, small, 1 << 30) == 875
    assert oom_score_adj(pod, large, 1 << 30) == 500
    assert oom_score_adj(pod, sidecar, 1 << 30) == 875
    assert oom_score_adj(pod, make_container(name="init"), 1 << 30) == 999


def test_what_a_pod_asks_for_as_a_whole_is_shared_by_its_containers() -> None:
    asking = resources(None, {"memory": "128Mi"})
    whole = core_v1.ResourceRequirements(requests={"memory": "640Mi"})
    pod = make_pod(containers=[asking, make_container(name="other")], resources=whole)
    assert oom_score_adj(pod, asking, 1 << 30) == 625
    assert oom_score_adj(pod, pod.spec.containers[1], 1 << 30) == 750  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("requests", "limits", "tiered", "unified"),
    [
        ({"memory": "256Mi"}, {"memory": "512Mi"}, False, {"min": 0, "low": 0, "high": 510_025_728}),
        ({"memory": "256Mi"}, {"memory": "512Mi"}, True, {"low": 256 << 20, "high": 510_025_728}),
        ({"memory": "256Mi"}, {}, False, {"min": 0, "low": 0, "high": 912_044_032}),
        ({}, {}, True, {"min": 0, "low": 0}),
        ({"memory": "64Mi", "cpu": "1"}, {"memory": "64Mi", "cpu": "1"}, True, {"min": 64 << 20}),
        ({"memory": "2Gi"}, {}, False, {"min": 0, "low": 0}),
    ],
    ids=["limit", "kept", "no limit", "nothing", "guaranteed", "more than the node has"],
)
def test_memory_qos(requests: dict[str, str], limits: dict[str, str], tiered: bool, unified: dict[str, int]) -> None:
    """Figures of the kubelet's formula: request + factor x (limit or allocatable - request), in whole pages."""
    node = NodeFacts(node_name="n", memory_bytes=1 << 31, allocatable_memory_bytes=983_557_734, cgroup_version=2)
    container = resources(limits, requests)
    pod = make_pod(containers=[container])
    found = container_resources(pod, container, SpecFacts(node=node, memory_qos=MemoryQos(0.9, tiered=tiered)))
    assert found.unified == {"memory.oom.group": "1", **{f"memory.{key}": str(one) for key, one in unified.items()}}
    old = dataclasses.replace(node, cgroup_version=1)
    assert container_resources(pod, container, SpecFacts(node=old, memory_qos=MemoryQos(0.9))).unified == {}


@pytest.mark.parametrize(
    ("behavior", "source", "limits", "swap_bytes"),
    [
        ("LimitedSwap", "api", {"memory": "512Mi"}, 256 << 20),
        ("LimitedSwap", "api", {"memory": "256Mi"}, 0),
        ("LimitedSwap", "file", {"memory": "512Mi"}, 0),
        ("NoSwap", "api", {"memory": "512Mi"}, 0),
    ],
    ids=["its share", "request is limit", "static", "off"],
)
def test_limited_swap(behavior: str, source: str, limits: dict[str, str], swap_bytes: int) -> None:
    node = NodeFacts(node_name="n", memory_bytes=1 << 30, cgroup_version=2, swap_controller=True, swap_bytes=1 << 30)
    container = resources(limits, {"memory": "256Mi"})
    pod = make_pod(containers=[container])
    assert pod.metadata is not None
    pod.metadata.annotations = {labels.CONFIG_SOURCE: source}
    linux = container_config(pod, container, 0, SpecFacts(node=node, swap_behavior=behavior), {}).linux
    assert linux is not None
    assert linux.resources is not None
    assert linux.resources.unified["memory.swap.max"] == str(swap_bytes)
