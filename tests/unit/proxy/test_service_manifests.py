"""What is wrong with a Service or EndpointSlice file is said with line and field."""

from __future__ import annotations

import pytest

from kube_objects.manifest import ManifestError
from proxy.endpoints import SliceFacts
from proxy.services import ServiceFacts, ServicePortFacts
from proxy.sources.manifest import parse_manifest

SERVICE = """apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  selector: {app: web}
  sessionAffinity: ClientIP
  ports:
  - name: a
    port: 80
    nodePort: 30080
  - name: b
    port: 81
    nodePort: 30081
"""
SLICE = """apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-1
  labels:
    kubernetes.io/service-name: web
addressType: IPv4
ports:
- name: a
  port: 8080
endpoints:
- addresses:
  - 10.0.0.1
"""


def refusal(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text.encode(), "web.yaml")
    return str(caught.value).removeprefix("cannot read web.yaml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: web\n", "labels: {}\n", ":3: metadata.name: required field is missing"),
        ("name: web\n", "name: Web\n", ":4: metadata.name: 'Web' must be lower case"),
        ("name: web\n", "name: web\n  namespace: a.b\n", ":5: metadata.namespace: 'a.b' must be"),
        ("name: web\n", "name: web\n  labels: {'a b': c}\n", ":5: metadata.labels[a b]: 'a b' must be"),
        ("kind: Service", "kind: Pod", ":2: kind: 'Pod' cannot be used here"),
        ("apiVersion: v1", "apiVersion: v2", ":1: apiVersion: 'v2' has no Service"),
        ("type: NodePort", "type: Nodeport", ":6: spec.type: must be one of"),
        (
            "type: NodePort",
            "type: ClusterIP",
            ":13: spec.ports[0].nodePort: may not be used when spec.type is ClusterIP",
        ),
        ("clusterIP: 10.96.0.10", "clusterIP: ''", ":7: spec.clusterIP: a node that works alone allocates no address"),
        ("clusterIP: 10.96.0.10", "clusterIP: None", ":7: spec.clusterIP: may not be 'None' for NodePort"),
        ("clusterIP: 10.96.0.10", "clusterIP: 10.96.0", ":7: spec.clusterIP: '10.96.0' is not an IP address"),
        ("clusterIP: 10.96.0.10", "clusterIP: '::ffff:10.96.0.10'", ":7: spec.clusterIP: ::ffff:10.96.0.10 is an IPv4"),
        ("clusterIP: 10.96.0.10", "clusterIP: 'fe80::1'", ":7: spec.clusterIP: fe80::1 is a link-local address"),
        (
            "clusterIP: 10.96.0.10",
            "clusterIP: 10.96.0.10\n  clusterIPs: [10.96.0.10, 10.96.0.11]",
            ":8: spec.clusterIPs[1]: must not be of IPv4 like the first one",
        ),
        (
            "clusterIP: 10.96.0.10",
            "clusterIP: 10.96.0.10\n  clusterIPs: [10.96.0.10, 'fd00::1']\n  ipFamilyPolicy: SingleStack",
            ":9: spec.ipFamilyPolicy: SingleStack allows one cluster IP only",
        ),
        (
            "clusterIP: 10.96.0.10",
            "clusterIP: 10.96.0.10\n  ipFamilyPolicy: RequireDualStack",
            ":8: spec.ipFamilyPolicy: a node that works alone allocates no second address",
        ),
        ("selector: {app: web}", "externalIPs: [127.0.0.1]", ":8: spec.externalIPs[0]: 127.0.0.1 is a loopback"),
        (
            "selector: {app: web}",
            "loadBalancerSourceRanges: [10.0.0.0/8]",
            ":8: spec.loadBalancerSourceRanges: may not",
        ),
        (
            "  type: NodePort",
            "  loadBalancerSourceRanges: [10.0.0.0]\n  type: LoadBalancer",
            ":6: spec.loadBalancerSourceRanges[0]: '10.0.0.0' is not a CIDR",
        ),
        ("selector: {app: web}", "healthCheckNodePort: 30000", ":8: spec.healthCheckNodePort: may only be used when"),
        (
            "  type: NodePort",
            "  type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 80",
            ":8: spec.healthCheckNodePort: 80 is outside of 30000-32767",
        ),
        (
            "spec:\n",
            "status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}\nspec:\n",
            ":5: status.loadBalancer.ingress: may not be used when spec.type is NodePort",
        ),
        (
            "spec:\n  type: NodePort",
            "status: {loadBalancer: {ingress: [{ip: 203.0.113.1, ipMode: Vip}]}}\nspec:\n  type: LoadBalancer",
            ":5: status.loadBalancer.ingress[0].ipMode: must be one of VIP, Proxy",
        ),
        ("clusterIP: 10.96.0.10", "clusterIP: 127.0.0.1", ":7: spec.clusterIP: 127.0.0.1 is a loopback address"),
        ("clusterIP: 10.96.0.10", "clusterIP: 010.96.0.10", ":7: spec.clusterIP: '010.96.0.10' is not an IP address"),
        (
            "clusterIP: 10.96.0.10",
            "clusterIP: 10.96.0.10\n  ipFamilies: [IPv6]",
            ":8: spec.ipFamilies[0]: IPv6 is not the family",
        ),
        (
            "clusterIP: 10.96.0.10",
            "clusterIP: 10.96.0.10\n  clusterIPs: [10.96.0.9]",
            ":8: spec.clusterIPs[0]: must be",
        ),
        ("selector: {app: web}", "selector: {app: 'a b'}", ":8: spec.selector.app: 'a b' must be"),
        (
            "sessionAffinity: ClientIP",
            "sessionAffinity: Client",
            ":9: spec.sessionAffinity: must be one of None, ClientIP",
        ),
        (
            "sessionAffinity: ClientIP",
            "sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}",
            ":10: spec.sessionAffinityConfig.clientIP.timeoutSeconds: must be between 1 and 86400",
        ),
        (
            "sessionAffinity: ClientIP",
            "sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}",
            ":9: spec.sessionAffinityConfig: may only be used when",
        ),
        ("port: 80\n", "port: 0\n", ":12: spec.ports[0].port: must be between 1 and 65535, not 0"),
        ("port: 80\n", "port: 65536\n", ":12: spec.ports[0].port: must be between 1 and 65535, not 65536"),
        ("port: 80\n", "port: http\n", ":12: spec.ports[0].port: must be an integer"),
        ("port: 80\n", "port: 80\n    targetPort: '8080'\n", ":13: spec.ports[0].targetPort: '8080' must contain"),
        ("port: 80\n", "port: 80\n    protocol: ICMP\n", ":13: spec.ports[0].protocol: must be one of TCP, UDP, SCTP"),
        ("port: 81\n", "port: 80\n", ":15: spec.ports[1].port: 80/TCP is used by an earlier port"),
        ("name: b", "name: a", ":14: spec.ports[1].name: 'a' is used by an earlier port"),
        ("- name: b\n    port", "- port", ":14: spec.ports[1].name: a Service with several ports must name each"),
        ("nodePort: 30081", "nodePort: 30080", ":16: spec.ports[1].nodePort: 30080/TCP is used by an earlier port"),
        ("nodePort: 30080", "nodePort: 8080", ":13: spec.ports[0].nodePort: 8080 is outside of 30000-32767"),
        ("    nodePort: 30080\n", "", ":11: spec.ports[0].nodePort: a node that works alone allocates none"),
        ("nodePort: 30080", "nodeport: 30080", ":13: spec.ports[0].nodeport: unknown field, did you mean 'nodePort'?"),
        ("selector: {app: web}", "externalTrafficPolicy: Here", ":8: spec.externalTrafficPolicy: must be one of"),
        ("selector: {app: web}", "internalTrafficPolicy: Here", ":8: spec.internalTrafficPolicy: must be one of"),
        ("selector: {app: web}", "trafficDistribution: Near", ":8: spec.trafficDistribution: must be one of"),
        ("spec:\n", "---\nspec:\n", ":6: holds 2 documents, one object per file is allowed"),
    ],
)
def test_a_bad_service(old: str, new: str, said: str) -> None:
    assert old in SERVICE
    assert refusal(SERVICE.replace(old, new, 1)).startswith(said)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    kubernetes.io/service-name: web",
            "    app: web",
            ":5: metadata.labels: needs the label kubernetes.io/service-name",
        ),
        ("addressType: IPv4", "addressType: IPv6", ":13: endpoints[0].addresses[0]: '10.0.0.1' is not an IPv6 address"),
        ("addressType: IPv4", "addressType: FQDN", ":7: addressType: FQDN gives names, and only addresses"),
        ("addressType: IPv4", "addressType: ipv4", ":7: addressType: must be one of IPv4, IPv6, FQDN"),
        ("  port: 8080", "  port: 0", ":10: ports[0].port: must be between 1 and 65535"),
        ("  port: 8080", "  port: 8080\n- name: a\n  port: 1", ":11: ports[1].name: 'a' is used by an earlier port"),
        ("10.0.0.1", "127.1.2.3", ":13: endpoints[0].addresses[0]: 127.1.2.3 is a loopback address"),
        ("10.0.0.1", "169.254.169.254", ":13: endpoints[0].addresses[0]: 169.254.169.254 is a link-local address"),
        ("10.0.0.1", "224.0.0.5", ":13: endpoints[0].addresses[0]: 224.0.0.5 is a multicast address"),
        ("10.0.0.1", "0.0.0.0", ":13: endpoints[0].addresses[0]: 0.0.0.0 is the unspecified address"),
        ("10.0.0.1", "web.example", ":13: endpoints[0].addresses[0]: 'web.example' is not an IPv4 address"),
        (
            "- addresses:\n  - 10.0.0.1",
            "- addresses: []",
            ":12: endpoints[0].addresses: must have 1 to 100 addresses, has 0",
        ),
        ("- addresses:", "- address:", ":12: endpoints[0].address: unknown field, did you mean 'addresses'?"),
    ],
)
def test_a_bad_slice(old: str, new: str, said: str) -> None:
    assert old in SLICE
    assert refusal(SLICE.replace(old, new, 1)).startswith(said)


def test_a_good_service_is_defaulted() -> None:
    facts = parse_manifest(SERVICE.encode(), "web.yaml")
    assert isinstance(facts, ServiceFacts)
    assert (facts.namespace, facts.affinity_timeout_s, facts.problems) == ("default", 10800, ())
    assert facts.ports[0] == ServicePortFacts("a", "TCP", 80, 80, 30080)


def test_a_good_slice_is_defaulted() -> None:
    facts = parse_manifest(SLICE.encode(), "web.yaml")
    assert isinstance(facts, SliceFacts)
    assert facts.ports == (("a", "TCP", 8080),)
    assert (facts.endpoints[0].ready, facts.endpoints[0].serving, facts.endpoints[0].terminating) == (True, True, False)
