"""Which pods may run beside which others on which node."""

from __future__ import annotations

import dataclasses

import pytest
from lightkube.models import core_v1, meta_v1

from agent.admission import Admitted, NotYet, Refused, Verdict, admit
from agent.assembly import not_admitted
from agent.container_spec.facts import HandlerFacts, NodeFacts, RuntimeFacts

NODE = NodeFacts(node_name="node1", cpu_milli=1000, memory_bytes=1 << 30, max_pods=3, labels={"disk": "ssd"})


def make_pod(
    uid: str,
    ports: list[core_v1.ContainerPort] | None = None,
    requests: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **spec: object,
) -> core_v1.Pod:
    resources = core_v1.ResourceRequirements(requests=requests)
    container = core_v1.Container(name="main", image="web", ports=ports, resources=resources)
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name=uid, namespace="default", uid=uid, labels=labels),
        spec=core_v1.PodSpec(containers=[container], **spec),
    )


def port(number: int, protocol: str = "TCP", address: str | None = None) -> list[core_v1.ContainerPort]:
    return [core_v1.ContainerPort(containerPort=80, hostPort=number, protocol=protocol, hostIP=address)]


def test_a_pod_alone_is_admitted() -> None:
    assert admit(make_pod("a"), NODE, []) == Admitted()


def test_a_pod_does_not_stand_in_its_own_way() -> None:
    pod = make_pod("a", port(80), {"cpu": "1"})
    assert admit(pod, NODE, [pod]) == Admitted()


@pytest.mark.parametrize(
    ("mine", "theirs", "clash"),
    [
        (port(80), port(80), True),
        (port(80), port(81), False),
        (port(80), port(80, "UDP"), False),
        (port(80, address="10.0.0.1"), port(80, address="10.0.0.2"), False),
        (port(80, address="10.0.0.1"), port(80, address="10.0.0.1"), True),
        (port(80, address="10.0.0.1"), port(80), True),
        (port(80), port(80, address="10.0.0.1"), True),
        (port(80, address="0.0.0.0"), port(80, address="10.0.0.1"), True),
        (port(0), port(0), False),
    ],
)
def test_host_ports(mine: list[core_v1.ContainerPort], theirs: list[core_v1.ContainerPort], clash: bool) -> None:
    verdict = admit(make_pod("a", mine), NODE, [make_pod("b", theirs)])
    if not clash:
        assert verdict == Admitted()
        return
    assert isinstance(verdict, NotYet)
    assert verdict.reason == "NodePorts"
    assert verdict.message.startswith("Predicate NodePorts failed: node(s) didn't have free ports")
    assert "default/b" in verdict.waiting_for


def test_pod_count() -> None:
    others = [make_pod(uid) for uid in "bcd"]
    assert admit(make_pod("a"), NODE, others[:2]) == Admitted()
    verdict = admit(make_pod("a"), NODE, others)
    assert isinstance(verdict, NotYet)
    assert verdict.reason == "OutOfpods"
    assert verdict.message == "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"


@pytest.mark.parametrize(
    ("asked", "taken", "reason"),
    [
        ({"cpu": "500m"}, {"cpu": "500m"}, None),
        ({"cpu": "501m"}, {"cpu": "500m"}, "OutOfcpu"),
        ({"memory": "1Gi"}, {}, None),
        ({"memory": "512Mi"}, {"memory": "513Mi"}, "OutOfmemory"),
        ({}, {"cpu": "5", "memory": "5Gi"}, None),
    ],
)
def test_resources(asked: dict[str, str], taken: dict[str, str], reason: str | None) -> None:
    verdict = admit(make_pod("a", requests=asked), NODE, [make_pod("b", requests=taken)])
    assert (verdict.reason if isinstance(verdict, NotYet) else None) == reason


def test_what_is_reserved_is_not_given_away() -> None:
    node = NodeFacts(node_name="n", cpu_milli=1000, allocatable_cpu_milli=100)
    assert isinstance(admit(make_pod("a", requests={"cpu": "101m"}), node, []), NotYet)


@pytest.mark.parametrize(
    ("selector", "admitted"),
    [
        ({"disk": "ssd"}, True),
        ({"kubernetes.io/hostname": "node1", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}, True),
        ({"disk": "hdd"}, False),
        ({"zone": "a"}, False),
    ],
)
def test_node_selector(selector: dict[str, str], admitted: bool) -> None:
    verdict = admit(make_pod("a", nodeSelector=selector), NODE, [])
    assert verdict == Admitted() if admitted else isinstance(verdict, Refused) and verdict.reason == "NodeAffinity"


def test_other_operating_systems_are_refused() -> None:
    by_field = admit(make_pod("a", os=core_v1.PodOS(name="windows")), NODE, [])
    assert isinstance(by_field, Refused)
    assert by_field.reason == "PodOSNotSupported"
    by_label = admit(make_pod("a", labels={"kubernetes.io/os": "windows"}), NODE, [])
    assert isinstance(by_label, Refused)
    assert by_label.reason == "PodOSSelectorNodeLabelDoesNotMatch"


def test_huge_pages_are_the_nodes_and_counted() -> None:
    node = dataclasses.replace(NODE, hugepages_bytes={"2MB": 4 << 20})
    first = make_pod("a", requests={"hugepages-2Mi": "4Mi"})
    assert admit(first, node, []) == Admitted()
    second = admit(make_pod("b", requests={"hugepages-2Mi": "2Mi"}), node, [first])
    assert isinstance(second, NotYet)
    assert second.reason == "OutOfhugepages-2Mi"
    assert isinstance(admit(make_pod("c", requests={"hugepages-1Gi": "1Gi"}), node, []), NotYet)


def test_a_pod_asks_for_its_sidecars_its_overhead_or_for_what_it_says_as_a_whole() -> None:
    def asks(
        inits: list[core_v1.Container] | None = None,
        overhead: dict[str, str] | None = None,
        whole: core_v1.ResourceRequirements | None = None,
    ) -> Verdict:
        pod = make_pod("a", None, {"cpu": "600m"}, None, initContainers=inits, overhead=overhead, resources=whole)
        return admit(pod, NODE, [])

    def init(cpu: str, policy: str | None) -> core_v1.Container:
        resources = core_v1.ResourceRequirements(requests={"cpu": cpu})
        return core_v1.Container(name=f"i{cpu}", image="x", restartPolicy=policy, resources=resources)

    assert asks(inits=[init("900m", None)]) == Admitted()
    assert isinstance(asks(inits=[init("500m", "Always")]), NotYet)
    assert isinstance(asks(inits=[init("300m", "Always"), init("800m", None)]), NotYet)
    assert isinstance(asks(overhead={"cpu": "500m"}), NotYet)
    assert isinstance(asks(whole=core_v1.ResourceRequirements(requests={"cpu": "1100m"})), NotYet)
    assert asks(whole=core_v1.ResourceRequirements(requests={"cpu": "700m"})) == Admitted()


def secured(**fields: object) -> core_v1.Pod:
    pod = make_pod("a")
    assert pod.spec is not None
    pod.spec.securityContext = core_v1.PodSecurityContext(**fields)
    return pod


@pytest.mark.parametrize(
    ("name", "allowed", "good"),
    [
        ("net.ipv4.tcp_syncookies", (), True),
        ("net/ipv4/tcp_syncookies", (), True),
        ("kernel.msgmax", (), False),
        ("kernel.msgmax", ("kernel.msg*",), True),
        ("kernel.msgmax", ("kernel.msgmax",), True),
        ("kernel.shmmax", ("kernel.msg*",), False),
        ("net.core.somaxconn", ("net/core/*",), True),
    ],
)
def test_a_sysctl_is_safe_or_allowed(name: str, allowed: tuple[str, ...], good: bool) -> None:
    pod = secured(sysctls=[core_v1.Sysctl(name=name, value="1")])
    verdict = admit(pod, dataclasses.replace(NODE, allowed_unsafe_sysctls=allowed), [])
    refusal = Refused("SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted')
    assert verdict == (Admitted() if good else refusal)


def test_what_kernel_or_runtime_cannot_do_is_refused_by_name() -> None:
    strict = secured(supplementalGroupsPolicy="Strict")
    verdict = admit(strict, NODE, [])
    assert isinstance(verdict, Refused)
    assert verdict.reason == "SupplementalGroupsPolicyNotSupported"
    able = dataclasses.replace(NODE, apparmor=True, runtime=RuntimeFacts(strict_groups=True))
    assert admit(strict, able, []) == Admitted()
    confined = secured(appArmorProfile=core_v1.AppArmorProfile(type="RuntimeDefault"))
    verdict = admit(confined, NODE, [])
    assert isinstance(verdict, Refused)
    assert verdict.reason == "AppArmor"
    assert admit(confined, able, []) == Admitted()
    assert admit(secured(appArmorProfile=core_v1.AppArmorProfile(type="Unconfined")), NODE, []) == Admitted()


def test_users_of_its_own_need_a_runtime_that_has_them() -> None:
    pod = make_pod("a", hostUsers=False)
    verdict = admit(pod, NODE, [])
    assert isinstance(verdict, Refused)
    assert verdict.reason == "UserNamespacesNotSupported"
    handlers = {"": HandlerFacts(user_namespaces=True)}
    assert admit(pod, dataclasses.replace(NODE, runtime=RuntimeFacts(handlers=handlers)), []) == Admitted()


def test_image_volumes_need_a_runtime_that_has_them() -> None:
    mounted = core_v1.Pod(
        spec=core_v1.PodSpec(
            containers=[core_v1.Container(name="c")],
            volumes=[core_v1.Volume(name="a", image=core_v1.ImageVolumeSource(reference="x:1"))],
        )
    )
    verdict = admit(mounted, NODE, [])
    assert isinstance(verdict, Refused)
    assert (verdict.reason, "image volumes are not supported" in verdict.message) == ("ImageVolumeNotSupported", True)
    able = dataclasses.replace(NODE, runtime=RuntimeFacts(image_volumes=True))
    assert admit(mounted, able, []) == Admitted()


def test_what_stands_in_the_way_for_a_while_is_told_from_what_stays() -> None:
    pods = [make_pod("gone", port(80)), make_pod("here", port(81))]

    def passing(pod: core_v1.Pod) -> bool | None:
        held = not_admitted(pod, NODE, pods, lambda one: one is pods[1])
        return None if held is None else held.passing

    assert passing(make_pod("a", port(80))) is True
    assert passing(make_pod("a", port(81))) is False
    assert passing(make_pod("a", [*port(80), *port(81)])) is False
    assert passing(make_pod("a", port(82))) is None
