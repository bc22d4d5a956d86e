"""The static pods of a control plane: etcd, API server, controller manager, scheduler. Pure.

Before: ClusterSettings and Places. Next: `control_plane.manifest_files` writes them where the agent reads manifests.
Flags, probes, requests, labels and annotations are kubeadm's of 1.36; ours beside them: profiling is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane.settings import (
    API_SERVER,
    API_SERVER_PORT,
    CONTROLLER_MANAGER,
    CONTROLLER_MANAGER_PORT,
    ETCD,
    ETCD_CLIENT_PORT,
    ETCD_METRICS_PORT,
    SCHEDULER,
    SCHEDULER_PORT,
    ClusterSettings,
    Places,
    url,
)

Json = dict[str, Any]
_SYSTEM_NODE_CRITICAL = 2000001000
_PROBE_PORT = "probe-port"
# Where distributions keep the authorities that pull secrets, webhooks and OIDC providers are trusted by.
_TRUSTED = Path("/etc/ssl/certs")
MORE_TRUSTED = (
    Path("/etc/ca-certificates"),
    Path("/etc/pki/ca-trust"),
    Path("/etc/pki/tls/certs"),
    Path("/usr/local/share/ca-certificates"),
    Path("/usr/share/ca-certificates"),
)
"""What /etc/ssl/certs may point into; mounted where it is there."""


@dataclass(frozen=True)
class _Mount:
    """A directory or file of the host, at the same path in the container."""

    name: str
    path: Path
    kind: str = "DirectoryOrCreate"
    read_only: bool = True


@dataclass(frozen=True, kw_only=True)
class _Component:
    name: str
    port: int
    probe_host: str
    probe_scheme: str
    flags: Mapping[str, str]
    mounts: Sequence[_Mount]
    requests: Mapping[str, str]
    live: str = "/livez"
    ready: str = "/readyz"
    started: str = "/livez"
    annotations: Mapping[str, str]


def manifests(settings: ClusterSettings, places: Places, trusted: Sequence[Path] = ()) -> dict[str, Json]:
    """Component -> its Pod. `trusted`: those of MORE_TRUSTED that this host has."""
    components = (
        _etcd(settings, places),
        _api_server(settings, places, trusted),
        _controller_manager(settings, places, trusted),
        _scheduler(settings, places),
    )
    return {one.name: _pod(one, settings.image(one.name)) for one in components}


def _pod(component: _Component, image: str) -> Json:
    metadata: Json = {
        "name": component.name,
        "namespace": "kube-system",
        "labels": {"component": component.name, "tier": "control-plane"},
    }
    if component.annotations:
        metadata["annotations"] = dict(component.annotations)
    spec = {
        "containers": [_container(component, image)],
        "hostNetwork": True,
        "priority": _SYSTEM_NODE_CRITICAL,
        "priorityClassName": "system-node-critical",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [
            {"name": one.name, "hostPath": {"path": str(one.path), "type": one.kind}} for one in component.mounts
        ],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(component: _Component, image: str) -> Json:
    made: Json = {
        "name": component.name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [component.name, *(f"--{name}={value}" for name, value in sorted(component.flags.items()))],
        "ports": [{"name": _PROBE_PORT, "containerPort": component.port, "protocol": "TCP"}],
        "livenessProbe": _probe(component, component.live, delay_s=10, period_s=10, failures=8),
        "startupProbe": _probe(component, component.started, delay_s=10, period_s=10, failures=24),
        "resources": {"requests": dict(component.requests)},
        "volumeMounts": [_mount(one) for one in component.mounts],
    }
    if component.ready:
        made["readinessProbe"] = _probe(component, component.ready, delay_s=0, period_s=1, failures=3)
    return made


def _mount(mount: _Mount) -> Json:
    made: Json = {"name": mount.name, "mountPath": str(mount.path)}
    return {**made, "readOnly": True} if mount.read_only else made


def _probe(component: _Component, path: str, *, delay_s: int, period_s: int, failures: int) -> Json:
    get = {"host": component.probe_host, "path": path, "port": _PROBE_PORT, "scheme": component.probe_scheme}
    bounds = {"periodSeconds": period_s, "timeoutSeconds": 15, "failureThreshold": failures}
    return {"httpGet": get, "initialDelaySeconds": delay_s, **bounds} if delay_s else {"httpGet": get, **bounds}


def _etcd(settings: ClusterSettings, places: Places) -> _Component:
    client = url("https", settings.advertise_address, ETCD_CLIENT_PORT)
    peer = settings.etcd_peer
    joins = {"initial-cluster-state": "existing"} if settings.etcd_cluster or settings.etcd_shared else {}
    pki = places.pki / "etcd"
    return _Component(
        name=ETCD,
        port=ETCD_METRICS_PORT,
        probe_host=settings.loopback,
        probe_scheme="HTTP",
        started="/readyz",
        requests={"cpu": "100m", "memory": "100Mi"},
        annotations={"kubeadm.kubernetes.io/etcd.advertise-client-urls": client},
        mounts=(
            _Mount("etcd-data", places.etcd_dir, read_only=False),
            _Mount("etcd-certs", pki),
        ),
        flags={
            "advertise-client-urls": client,
            "cert-file": str(pki / "server.crt"),
            "client-cert-auth": "true",
            "data-dir": str(places.etcd_dir),
            "feature-gates": "InitialCorruptCheck=true",
            "initial-advertise-peer-urls": peer,
            "initial-cluster": settings.etcd_cluster or f"{settings.node_name}={peer}",
            **joins,
            "key-file": str(pki / "server.key"),
            "listen-client-urls": f"{url('https', settings.loopback, ETCD_CLIENT_PORT)},{client}",
            "listen-metrics-urls": url("http", settings.loopback, ETCD_METRICS_PORT),
            "listen-peer-urls": peer,
            "name": settings.node_name,
            "peer-cert-file": str(pki / "peer.crt"),
            "peer-client-cert-auth": "true",
            "peer-key-file": str(pki / "peer.key"),
            "peer-trusted-ca-file": str(pki / "ca.crt"),
            "snapshot-count": "10000",
            "trusted-ca-file": str(pki / "ca.crt"),
            "watch-progress-notify-interval": "5s",
        },
    )


def _api_server(settings: ClusterSettings, places: Places, trusted: Sequence[Path]) -> _Component:
    pki = places.pki
    return _Component(
        name=API_SERVER,
        port=API_SERVER_PORT,
        probe_host=settings.advertise_address,
        probe_scheme="HTTPS",
        requests={"cpu": "250m"},
        annotations={
            "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": settings.local_server.removeprefix(
                "https://"
            )
        },
        mounts=(_Mount("k8s-certs", pki), *_trusted(trusted)),
        flags={
            "advertise-address": settings.advertise_address,
            "allow-privileged": "true",
            "authorization-mode": "Node,RBAC",
            "client-ca-file": str(pki / "ca.crt"),
            "enable-admission-plugins": "NodeRestriction",
            "enable-bootstrap-token-auth": "true",
            "etcd-cafile": str(pki / "etcd" / "ca.crt"),
            "etcd-certfile": str(pki / "apiserver-etcd-client.crt"),
            "etcd-keyfile": str(pki / "apiserver-etcd-client.key"),
            "etcd-servers": url("https", settings.loopback, ETCD_CLIENT_PORT),
            "kubelet-client-certificate": str(pki / "apiserver-kubelet-client.crt"),
            "kubelet-client-key": str(pki / "apiserver-kubelet-client.key"),
            "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
            "profiling": "false",
            "proxy-client-cert-file": str(pki / "front-proxy-client.crt"),
            "proxy-client-key-file": str(pki / "front-proxy-client.key"),
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-client-ca-file": str(pki / "front-proxy-ca.crt"),
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-username-headers": "X-Remote-User",
            "secure-port": str(API_SERVER_PORT),
            "service-account-issuer": f"https://kubernetes.default.svc.{settings.dns_domain}",
            "service-account-key-file": str(pki / "sa.pub"),
            "service-account-signing-key-file": str(pki / "sa.key"),
            "service-cluster-ip-range": settings.service_cidr,
            # Else it waits for watches that nobody ends, until it is killed: 30 s without an API server.
            "shutdown-watch-termination-grace-period": "5s",
            "tls-cert-file": str(pki / "apiserver.crt"),
            "tls-private-key-file": str(pki / "apiserver.key"),
        },
    )


def _controller_manager(settings: ClusterSettings, places: Places, trusted: Sequence[Path]) -> _Component:
    pki, config = places.pki, places.kubeconfig("controller-manager")
    return _Component(
        name=CONTROLLER_MANAGER,
        port=CONTROLLER_MANAGER_PORT,
        probe_host=settings.loopback,
        probe_scheme="HTTPS",
        live="/healthz",
        started="/healthz",
        ready="",
        requests={"cpu": "200m"},
        annotations={},
        mounts=(_Mount("k8s-certs", pki), _Mount("kubeconfig", config, "FileOrCreate"), *_trusted(trusted)),
        flags={
            **_as_client(config, settings),
            "allocate-node-cidrs": "true",
            "client-ca-file": str(pki / "ca.crt"),
            "cluster-cidr": settings.pod_cidr,
            "cluster-name": "kubernetes",
            "cluster-signing-cert-file": str(pki / "ca.crt"),
            "cluster-signing-key-file": str(pki / "ca.key"),
            "controllers": "*,bootstrapsigner,tokencleaner",
            "requestheader-client-ca-file": str(pki / "front-proxy-ca.crt"),
            "root-ca-file": str(pki / "ca.crt"),
            "service-account-private-key-file": str(pki / "sa.key"),
            "service-cluster-ip-range": settings.service_cidr,
            "use-service-account-credentials": "true",
        },
    )


def _scheduler(settings: ClusterSettings, places: Places) -> _Component:
    config = places.kubeconfig("scheduler")
    return _Component(
        name=SCHEDULER,
        port=SCHEDULER_PORT,
        probe_host=settings.loopback,
        probe_scheme="HTTPS",
        requests={"cpu": "100m"},
        annotations={},
        mounts=(_Mount("kubeconfig", config, "FileOrCreate"),),
        flags=_as_client(config, settings),
    )


def _as_client(config: Path, settings: ClusterSettings) -> dict[str, str]:
    """What controller manager and scheduler have in common."""
    return {
        "authentication-kubeconfig": str(config),
        "authorization-kubeconfig": str(config),
        "bind-address": settings.loopback,
        "kubeconfig": str(config),
        "leader-elect": "true",
        "profiling": "false",
    }


def _trusted(more: Sequence[Path]) -> tuple[_Mount, ...]:
    others = (_Mount(str(path).strip("/").replace("/", "-"), path) for path in more)
    return (_Mount("ca-certs", _TRUSTED), *others)
