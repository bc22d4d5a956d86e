"""The API objects the proxy reads, as msgspec Structs.  Pure; types only.

Before: bytes of a manifest, of the agent's pod stream or of an API server.  Next: the readers beside this file turn
them into facts and the objects are dropped.

These are our own rather than `lightkube.models` because importing that package brings an HTTP client and costs 7 MB of
memory for the whole life of the daemon.  `Service` and `EndpointSlice` list every field of the v1 API so that an
unknown field is a typing mistake; the types of pods and nodes list only what is looked at and ignore the rest.
Names are the API's own, hence camelCase.
"""

# ruff: noqa: N815 - field names are the API's

from __future__ import annotations

from typing import Any

import msgspec


class ObjectMeta(msgspec.Struct, frozen=True, kw_only=True):
    """meta/v1 ObjectMeta as a person may write it."""

    name: str = ""
    generateName: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    generation: int | None = None
    creationTimestamp: str | None = None
    deletionTimestamp: str | None = None
    deletionGracePeriodSeconds: int | None = None
    finalizers: list[str] | None = None
    ownerReferences: list[dict[str, Any]] | None = None
    managedFields: list[dict[str, Any]] | None = None
    selfLink: str | None = None


class ServicePort(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 ServicePort."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    appProtocol: str | None = None
    targetPort: int | str | None = None
    nodePort: int | None = None


class ClientIPConfig(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 ClientIPConfig."""

    timeoutSeconds: int | None = None


class SessionAffinityConfig(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 SessionAffinityConfig."""

    clientIP: ClientIPConfig | None = None


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 ServiceSpec, all fields."""

    ports: list[ServicePort] | None = None
    selector: dict[str, str] | None = None
    clusterIP: str | None = None
    clusterIPs: list[str] | None = None
    type: str = "ClusterIP"
    externalIPs: list[str] | None = None
    sessionAffinity: str = "None"
    loadBalancerIP: str | None = None
    loadBalancerSourceRanges: list[str] | None = None
    externalName: str | None = None
    externalTrafficPolicy: str | None = None
    healthCheckNodePort: int | None = None
    publishNotReadyAddresses: bool | None = None
    sessionAffinityConfig: SessionAffinityConfig | None = None
    ipFamilies: list[str] | None = None
    ipFamilyPolicy: str | None = None
    allocateLoadBalancerNodePorts: bool | None = None
    loadBalancerClass: str | None = None
    internalTrafficPolicy: str | None = None
    trafficDistribution: str | None = None


class LoadBalancerIngress(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 LoadBalancerIngress."""

    ip: str | None = None
    hostname: str | None = None
    ipMode: str | None = None
    ports: list[dict[str, Any]] | None = None


class LoadBalancerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 LoadBalancerStatus."""

    ingress: list[LoadBalancerIngress] | None = None


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 ServiceStatus."""

    loadBalancer: LoadBalancerStatus | None = None
    conditions: list[dict[str, Any]] | None = None


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """core/v1 Service."""

    apiVersion: str = ""
    kind: str = ""
    """An API server leaves both out of the objects of a list."""
    metadata: ObjectMeta
    spec: ServiceSpec
    status: ServiceStatus | None = None


class EndpointPort(msgspec.Struct, frozen=True, kw_only=True):
    """discovery/v1 EndpointPort."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    appProtocol: str | None = None


class EndpointConditions(msgspec.Struct, frozen=True, kw_only=True):
    """discovery/v1 EndpointConditions; absent means ready, serving and not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class HintTarget(msgspec.Struct, frozen=True, kw_only=True):
    """discovery/v1 ForNode and ForZone."""

    name: str


class EndpointHints(msgspec.Struct, frozen=True, kw_only=True):
    """discovery/v1 EndpointHints."""

    forZones: list[HintTarget] | None = None
    forNodes: list[HintTarget] | None = None


class SliceEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """discovery/v1 Endpoint."""

    addresses: list[str] = []
    conditions: EndpointConditions | None = None
    hostname: str | None = None
    targetRef: dict[str, Any] | None = None
    deprecatedTopology: dict[str, str] | None = None
    nodeName: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None


class EndpointSlice(msgspec.Struct, frozen=True, kw_only=True):
    """discovery/v1 EndpointSlice."""

    apiVersion: str = ""
    kind: str = ""
    """An API server leaves both out of the objects of a list."""
    metadata: ObjectMeta
    addressType: str
    endpoints: list[SliceEndpoint] | None = None
    ports: list[EndpointPort] | None = None


class Taint(msgspec.Struct, frozen=True):
    """The part of core/v1 Taint that tells of an autoscaler's intent."""

    key: str = ""


class NodeSpec(msgspec.Struct, frozen=True):
    """The part of core/v1 NodeSpec a proxy looks at."""

    podCIDR: str | None = None
    podCIDRs: list[str] | None = None
    taints: list[Taint] | None = None


class NodeAddress(msgspec.Struct, frozen=True):
    """core/v1 NodeAddress."""

    type: str = ""
    address: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    """The part of core/v1 NodeStatus a proxy looks at."""

    addresses: list[NodeAddress] | None = None


class Node(msgspec.Struct, frozen=True):
    """The part of core/v1 Node a proxy looks at."""

    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ServiceCIDRSpec(msgspec.Struct, frozen=True):
    """networking/v1 ServiceCIDRSpec."""

    cidrs: list[str] | None = None


class ServiceCIDR(msgspec.Struct, frozen=True):
    """networking/v1 ServiceCIDR: a range that cluster IPs are given out of."""

    metadata: ObjectMeta
    spec: ServiceCIDRSpec = ServiceCIDRSpec()


class ContainerPort(msgspec.Struct, frozen=True):
    """The part of core/v1 ContainerPort a named targetPort is looked up in."""

    containerPort: int
    name: str | None = None
    protocol: str | None = None


class Container(msgspec.Struct, frozen=True):
    """The part of core/v1 Container a named targetPort is looked up in."""

    ports: list[ContainerPort] | None = None
    restartPolicy: str | None = None


class PodSpec(msgspec.Struct, frozen=True):
    """The part of core/v1 PodSpec endpoints are made of."""

    containers: list[Container] = []
    initContainers: list[Container] | None = None
    nodeName: str | None = None


class PodCondition(msgspec.Struct, frozen=True):
    """core/v1 PodCondition."""

    type: str
    status: str


class PodIP(msgspec.Struct, frozen=True):
    """core/v1 PodIP."""

    ip: str | None = None


class PodStatus(msgspec.Struct, frozen=True):
    """The part of core/v1 PodStatus endpoints are made of."""

    phase: str | None = None
    podIP: str | None = None
    podIPs: list[PodIP] | None = None
    conditions: list[PodCondition] | None = None


class PodMeta(msgspec.Struct, frozen=True):
    """The part of meta/v1 ObjectMeta endpoints are made of."""

    name: str
    namespace: str = "default"
    labels: dict[str, str] | None = None
    deletionTimestamp: str | None = None


class Pod(msgspec.Struct, frozen=True):
    """The part of core/v1 Pod endpoints are made of."""

    metadata: PodMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class AgentPod(msgspec.Struct, frozen=True):
    """One element of the agent's answer."""

    pod: Pod


class AgentPods(msgspec.Struct, frozen=True):
    """One line of the agent's `GET /v1/pods?watch=true`."""

    pods: list[AgentPod]
