"""Which authorities and certificates a control plane has, and whom each is for: a table. Pure.

Before: ClusterSettings. Next: `control_plane.pki` makes what is missing. Names, files, users and groups are kubeadm's
(https://kubernetes.io/docs/setup/best-practices/certificates/).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from control_plane.settings import ClusterSettings
from control_plane.x509 import Subject

AUTHORITY_VALID = datetime.timedelta(days=3650)
CERTIFICATE_VALID = datetime.timedelta(days=365)
CLUSTER_CA = "ca"
_ETCD_CA = "etcd/ca"
_FRONT_PROXY_CA = "front-proxy-ca"
SERVICE_ACCOUNTS = "sa"
"""A key pair without a certificate: sa.key signs the tokens of service accounts, sa.pub checks them."""

AUTHORITIES = {CLUSTER_CA: "kubernetes", _ETCD_CA: "etcd-ca", _FRONT_PROXY_CA: "front-proxy-ca"}
"""File below pki/ without its ending -> the authority's own name."""

_MASTERS = ("system:masters",)


@dataclass(frozen=True)
class Certificate:
    """`file` below pki/ without its ending, `authority` the file of who signs it."""

    file: str
    authority: str
    subject: Subject


def certificates(settings: ClusterSettings) -> tuple[Certificate, ...]:
    """All but those inside kubeconfigs."""
    node, address = settings.node_name, settings.advertise_address
    domain = settings.dns_domain
    services = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{domain}")
    # The API server is asked by its static pod's probe and by `kubectl` on this machine, by loopback too.
    own = (address, "localhost", settings.loopback, *filter(None, [settings.endpoint_host]))
    api = (node, *services, settings.first_service_ip, *own, *settings.cert_sans)
    etcd = (node, "localhost", address, "127.0.0.1", "::1")
    return (
        Certificate("apiserver", CLUSTER_CA, Subject(name="kube-apiserver", addresses=api, client=False)),
        Certificate(
            "apiserver-kubelet-client", CLUSTER_CA, Subject(name="kube-apiserver-kubelet-client", groups=_MASTERS)
        ),
        Certificate("front-proxy-client", _FRONT_PROXY_CA, Subject(name="front-proxy-client")),
        Certificate("etcd/server", _ETCD_CA, Subject(name=node, addresses=etcd)),
        Certificate("etcd/peer", _ETCD_CA, Subject(name=node, addresses=etcd)),
        Certificate("etcd/healthcheck-client", _ETCD_CA, Subject(name="kube-etcd-healthcheck-client")),
        Certificate("apiserver-etcd-client", _ETCD_CA, Subject(name="kube-apiserver-etcd-client")),
    )


def server_of(name: str, settings: ClusterSettings) -> str:
    """Whom the kubeconfig asks: the parts of a control plane their own API server, as kubeadm's; its agent and proxy
    the cluster's where that is away.
    """
    if name == "admin":
        return settings.server
    if name in ("kubelet", "proxy"):
        return ",".join(dict.fromkeys((settings.local_server, settings.server)))
    return settings.local_server


def users(settings: ClusterSettings) -> dict[str, Subject]:
    """Kubeconfig -> who is in it; all are signed by the cluster's authority."""
    return {
        "admin": Subject(name="kubernetes-admin", groups=_MASTERS),
        "controller-manager": Subject(name="system:kube-controller-manager"),
        "scheduler": Subject(name="system:kube-scheduler"),
        "kubelet": Subject(name=f"system:node:{settings.node_name}", groups=("system:nodes",)),
        "proxy": Subject(name="system:kube-proxy"),
    }
