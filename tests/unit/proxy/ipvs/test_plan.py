"""`longshore proxy plan` in mode ipvs: the steps as the tools would be told them."""

from __future__ import annotations

from dataclasses import replace

from proxy.ipvs.model import IpvsSettings, ServerKey, State, Target, VirtualServer
from proxy.ipvs.observe import Observed
from proxy.ipvs.plan import planned_steps, shown
from proxy.routes import Endpoint, PortName, ServiceRoute, TrafficSettings

SCTP = ServiceRoute(
    name=PortName("default", "signal", "", "SCTP"),
    family=4,
    cluster_ip="10.96.0.9",
    port=3868,
    node_port=0,
    affinity_timeout_s=600,
    endpoints=(Endpoint("10.244.0.2", 3868, local=True),),
    local_endpoints=(),
    internal_local=False,
    external_local=False,
)


def plan(held: State, route: ServiceRoute) -> list[str]:
    observed = Observed(held, {}, frozenset({"192.168.50.1"}), device=7)
    steps = planned_steps(observed, TrafficSettings(), IpvsSettings(scheduler="wlc"), route.family, [route])
    return shown((), steps, device=True).splitlines()


def test_a_new_service_is_let_in_before_its_address_is_there() -> None:
    lines = plan(State(), SCTP)
    served = [
        "ipvsadm -A --sctp-service 10.96.0.9:3868 -s wlc -p 600",
        "ipvsadm -a --sctp-service 10.96.0.9:3868 -r 10.244.0.2:3868 -m -w 1",
        "ip address add 10.96.0.9/32 dev kube-ipvs0",
    ]
    assert lines[-3:] == served
    assert "ipset add KUBE-CLUSTER-IP 10.96.0.9,sctp:3868" in lines[:-3]


def test_only_what_differs_is_planned() -> None:
    six = replace(SCTP, family=6, cluster_ip="fd00::9", endpoints=(Endpoint("fd01::2", 3868, local=True),))
    key = ServerKey("SCTP", "fd00::9", 3868)
    held = State({key: VirtualServer("wlc", 600, {Target("fd01::3", 3868): 1})}, frozenset({"fd00::9", "fd00::8"}))
    lines = [line for line in plan(held, six) if not line.startswith("ipset")]
    assert lines == [
        "ipvsadm -a --sctp-service [fd00::9]:3868 -r [fd01::2]:3868 -m -w 1",
        "ipvsadm -d --sctp-service [fd00::9]:3868 -r [fd01::3]:3868",
        "ip address del fd00::8/128 dev kube-ipvs0",
    ]


def test_what_has_to_be_there_first_is_made_first() -> None:
    assert shown(["KUBE-6-CLUSTER-IP", "KUBE-NODE-PORT-TCP"], (), device=False).splitlines() == [
        "ip link add kube-ipvs0 type dummy",
        "ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6",
        "ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535",
    ]
