"""Objects as an API server has them: what is used, what is left out, what is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kube_client.messages import Item
from proxy.services import ServiceFacts
from proxy.sources.api_objects import NodeObject, read_node, read_service, read_slice


def item(**value: Any) -> Item:
    return Item(("default", "web"), "u", "1", msgspec.json.encode(value))


def service(status: Any = None, **spec: Any) -> Item:
    meta = {"name": "web", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"}
    full = {"clusterIP": "10.96.0.10", "ports": [{"port": 80}], **spec}
    return item(apiVersion="v1", kind="Service", metadata=meta, spec=full, status=status)


def facts(found: Item) -> ServiceFacts:
    known = read_service(found)
    assert known is not None
    return known.facts


def piece(*endpoints: Any, labels: Any = None, **more: Any) -> Item:
    labels = {"kubernetes.io/service-name": "web"} if labels is None else labels
    meta = {"name": "web-1", "namespace": "default", "labels": labels}
    body = {"addressType": "IPv4", "endpoints": list(endpoints), "ports": [{"port": 8080}], **more}
    return item(apiVersion="discovery.k8s.io/v1", kind="EndpointSlice", metadata=meta, **body)


def ips(found: Item) -> list[str]:
    known = read_slice(found)
    assert known is not None
    return [endpoint.ip for endpoint in known.facts.endpoints]


def test_a_service_gets_its_endpoints_from_slices_and_its_ports_from_the_clusters_own_range() -> None:
    found = facts(service(type="NodePort", selector={"app": "web"}, ports=[{"port": 80, "nodePort": 20080}]))
    assert (found.selector, found.needs_pods) == ((), False)
    assert found.ports[0].node_port == 20080
    known = read_service(service())
    assert known is not None
    assert known.created == "2026-01-01T00:00:00Z"


def test_what_a_newer_server_says_is_left_alone() -> None:
    found = facts(service(trafficDistribution="PreferMars", novelty={"a": [1]}, externalIPs=None, sessionAffinity=None))
    assert found.cluster_ips == ("10.96.0.10",)
    left = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}}  # of a type it had before
    assert facts(service(left)).load_balancer_ips == ()
    balanced = service(left, type="LoadBalancer", ports=[{"port": 80, "nodePort": 30080}])
    assert facts(balanced).load_balancer_ips == ("192.0.2.9",)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (service(ports=[{"port": "http"}]), r"Expected `int`, got `str` - at `\$.spec.ports\[0\].port`"),
        (service(clusterIP="ten"), "spec.clusterIP: 'ten' is not an IP address"),
    ],
)
def test_a_service_that_cannot_be_used_is_named(found: Item, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_service(found)


def test_one_bad_address_does_not_take_the_cluster_ip_away() -> None:
    bad = [{"ip": "127.0.0.1"}, {"ip": "192.0.2.9"}, {"ip": "192.0.2.8", "ipMode": "Mars"}]
    known = read_service(
        service({"loadBalancer": {"ingress": bad}}, type="LoadBalancer", externalIPs=["192.0.2.7", "169.254.0.1"])
    )
    assert known is not None
    assert (known.facts.cluster_ips, known.facts.external_ips) == (("10.96.0.10",), ("192.0.2.7",))
    assert known.facts.load_balancer_ips == ("192.0.2.9",)
    assert known.problem == (
        "spec.externalIPs[1]: 169.254.0.1 is a link-local address, which no service may have; the address is left out"
    )
    guarded = service(
        {"loadBalancer": {"ingress": bad[1:2]}},
        type="LoadBalancer",
        loadBalancerSourceRanges=["10.0.0.0/8", "010.0.0.0/8"],
    )
    known = read_service(guarded)
    assert known is not None
    assert (known.facts.load_balancer_ips, known.facts.source_ranges) == ((), ()), "nobody is let in by mistake"
    assert known.problem.endswith("the load balancer's addresses are left out")


def test_one_bad_endpoint_does_not_take_the_slice_away() -> None:
    good, bad, null = {"addresses": ["10.0.0.1"]}, {"addresses": ["127.0.0.1"]}, {"addresses": None}
    known = read_slice(piece(good, bad, null, {"addresses": ["10.0.0.2"], "conditions": None, "nodeName": None}))
    assert known is not None
    assert [endpoint.ip for endpoint in known.facts.endpoints] == ["10.0.0.1", "10.0.0.2"]
    assert known.problem.startswith("endpoints[1].addresses[0]: 127.0.0.1 is a loopback address")


def test_a_slice_larger_than_any_we_know_of_is_used() -> None:
    endpoints = [{"addresses": [f"10.1.{number // 250}.{number % 250 + 1}"]} for number in range(1500)]
    assert len(ips(piece(*endpoints))) == 1500


def test_null_lists_and_slices_that_are_for_nobody() -> None:
    assert ips(piece(endpoints=None, ports=None)) == []
    assert read_slice(piece(addressType="FQDN")) is None
    assert read_slice(piece(labels={"a": "b"})) is None
    with pytest.raises(ValueError, match=r"ports\[0\].port: "):
        read_slice(piece(ports=[{"port": 99999}]))


def node(metadata: Any = None, spec: Any = None, status: Any = None) -> NodeObject:
    whole = {"metadata": {"name": "node-a", **(metadata or {})}, "spec": spec or {}, "status": status or {}}
    known = read_node(item(**whole))
    assert known is not None
    return known.facts


def test_what_a_node_says_about_itself() -> None:
    addresses = [
        {"type": "Hostname", "address": "node-a"},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "ExternalIP", "address": "fd00::5"},
        {"type": "InternalIP", "address": "10.0.0.5"},
        {"type": "InternalIP", "address": "10.0.0.6"},
    ]
    labels = {"topology.kubernetes.io/zone": "z1"}
    found = node({"labels": labels}, {"podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]}, {"addresses": addresses})
    assert found == NodeObject(("10.0.0.5", "fd00::5"), "z1", ("10.244.1.0/24", "fd00:1::/64"))
    assert node(spec={"podCIDR": "10.244.1.0/24"}).pod_cidrs == ("10.244.1.0/24",)


@pytest.mark.parametrize(
    ("metadata", "taints", "leaving"),
    [
        ({}, [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}], False),
        ({}, [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}], True),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, None, True),
    ],
)
def test_a_node_that_leaves(metadata: dict[str, Any], taints: Any, leaving: bool) -> None:
    assert node(metadata, {"taints": taints}).leaving is leaving
