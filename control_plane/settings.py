"""What a control plane on one machine is told: names, addresses, images, directories. Pure.

Before: the options of `longshore up` and `longshore control-plane`, and what `control_plane.record` remembers of the
last run. Next: `certificates`, `kubeconfigs` and `manifests` make their tables of it. Names, defaults and ports are
kubeadm's (kubeadm v1beta4 ClusterConfiguration; https://kubernetes.io/docs/reference/networking/ports-and-
protocols/).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

API_SERVER_PORT = 6443
ETCD_CLIENT_PORT = 2379
ETCD_PEER_PORT = 2380
ETCD_METRICS_PORT = 2381
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259

ETCD = "etcd"
API_SERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
COMPONENTS = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)
"""In the order in which they need each other; each is a static pod and a manifest of that name."""

PORTS = {
    API_SERVER_PORT: API_SERVER,
    ETCD_CLIENT_PORT: ETCD,
    ETCD_PEER_PORT: ETCD,
    ETCD_METRICS_PORT: ETCD,
    CONTROLLER_MANAGER_PORT: CONTROLLER_MANAGER,
    SCHEDULER_PORT: SCHEDULER,
}

DEFAULT_KUBERNETES_DIR = "/etc/kubernetes"
DEFAULT_ETCD_DIR = "/var/lib/etcd"
_ETCD_TAG = "3.6.8-0"  # what kubeadm 1.36 runs
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_VERSION = re.compile(r"v1\.(\d+)\.\d+(-[0-9A-Za-z.-]+)?\Z")
_MINORS = (34, 36)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_REPOSITORY = r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9][a-z0-9._-]*)*"
_IMAGE = re.compile(_REPOSITORY + r"(:\w[\w.-]*)?(@sha256:[0-9a-f]{64})?\Z", re.ASCII)


JOINING = "joining"
"""As `etcd_cluster`: this machine is to join others', and has not told them yet."""


class SettingsError(ValueError):
    """A setting cannot be used; the text names its option."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where the files are; absolute, the same on the host and in the pods."""

    kubernetes_dir: Path
    manifest_dir: Path
    etcd_dir: Path

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.kubernetes_dir / "pki"

    @property
    def kubelet_pki(self) -> Path:
        """Where an agent that has joined keeps the certificate that it renews."""
        return self.pki / "kubelet"

    @property
    def kubelet_certificate(self) -> Path:
        """The newest of them, and its key."""
        return self.kubelet_pki / "kubelet-client-current.pem"

    @property
    def etcd_data(self) -> Path:
        """What etcd itself makes below its directory."""
        return self.etcd_dir / "member"

    @property
    def manifests_aside(self) -> Path:
        """Where the manifests of the control plane wait while etcd has no data, or gets others."""
        return self.kubernetes_dir / "manifests-of-restore"

    @property
    def snapshot(self) -> Path:
        """Where a backup of the node brings etcd's snapshot."""
        return self.kubernetes_dir / "etcd.snapshot"

    def manifest(self, component: str) -> Path:
        """The static pod's file."""
        return self.manifest_dir / f"{component}.yaml"

    def kubeconfig(self, name: str) -> Path:
        """For example `admin` -> admin.conf."""
        return self.kubernetes_dir / f"{name}.conf"


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The choices of a cluster; but for the last two a field is an option of that name."""

    node_name: str
    advertise_address: str
    service_cidr: str = "10.96.0.0/12"
    pod_cidr: str = "10.244.0.0/16"
    dns_domain: str = "cluster.local"
    kubernetes_version: str = "v1.36.3"
    image_repository: str = "registry.k8s.io"
    etcd_image: str = ""
    control_plane_endpoint: str = ""
    cert_sans: tuple[str, ...] = ()
    node_ip: str = ""
    etcd_cluster: str = ""
    """As in --initial-cluster, where etcd has joined others; no option, but found."""
    etcd_shared: bool = False
    """Whether others have joined the etcd that began here; found, too.  Then it never begins again: an empty directory
    has lost its data.
    """

    @property
    def loopback(self) -> str:
        """Of the family of the advertised address."""
        return "::1" if ":" in self.advertise_address else "127.0.0.1"

    @property
    def server(self) -> str:
        """The cluster's URL: the endpoint that all its API servers are behind, else the one of this machine."""
        return f"https://{self.control_plane_endpoint}" if self.control_plane_endpoint else self.local_server

    @property
    def local_server(self) -> str:
        """The URL of this machine's API server."""
        return url("https", self.advertise_address, API_SERVER_PORT)

    @property
    def etcd_peer(self) -> str:
        """The URL by which other members of etcd reach this machine's."""
        return url("https", self.advertise_address, ETCD_PEER_PORT)

    @property
    def endpoint_host(self) -> str:
        """Of the endpoint, without brackets; "" where there is none."""
        return self.control_plane_endpoint.rpartition(":")[0].strip("[]")

    @property
    def first_service_ip(self) -> str:
        """The address of the Service `kubernetes`."""
        return str(ipaddress.ip_network(self.service_cidr.partition(",")[0])[1])

    def image(self, component: str) -> str:
        """What the static pod of a component runs."""
        if component == ETCD:
            return self.etcd_image or f"{self.image_repository}/etcd:{_ETCD_TAG}"
        return f"{self.image_repository}/{component}:{self.kubernetes_version}"


def url(scheme: str, address: str, port: int) -> str:
    """A URL without a path; brackets around an IPv6 address."""
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"


def check_settings(settings: ClusterSettings) -> None:
    """Raises SettingsError for what no control plane could run with."""
    _match(_NAME, settings.node_name, "--node-name", "a DNS subdomain such as node-1")
    _check_address(settings.advertise_address)
    services = _networks(settings.service_cidr, "--service-cidr", {4: (12, 24), 6: (108, 112)})
    pods = _networks(settings.pod_cidr, "--pod-cidr", {4: (0, 24), 6: (48, 64)})
    for one, other in ((one, other) for one in services for other in pods if one.version == other.version):
        if one.overlaps(other):
            raise SettingsError(f"--pod-cidr: {other} overlaps --service-cidr {one}")
    if services[0].version != ipaddress.ip_address(settings.advertise_address).version:
        raise SettingsError(f"--service-cidr: {services[0]} is not of the family of {settings.advertise_address}")
    if {one.version for one in services} != {one.version for one in pods}:
        raise SettingsError(f"--pod-cidr: {settings.pod_cidr} is not of the families of {settings.service_cidr}")
    _match(_NAME, settings.dns_domain, "--dns-domain", "a DNS subdomain such as cluster.local")
    version = _VERSION.match(settings.kubernetes_version)
    if version is None or not _MINORS[0] <= int(version[1]) <= _MINORS[1]:
        known = f"a release v1.{_MINORS[0]}.0 to v1.{_MINORS[1]}.x"
        raise SettingsError(f"--kubernetes-version: {settings.kubernetes_version!r} is not {known}")
    _match(
        re.compile(_REPOSITORY + r"\Z", re.ASCII),
        settings.image_repository,
        "--image-repository",
        "a repository such as registry.k8s.io",
    )
    if settings.etcd_image:
        _match(_IMAGE, settings.etcd_image, "--etcd-image", "an image such as registry.k8s.io/etcd:3.6.8-0")
    for text in settings.node_ip.split(",") if settings.node_ip else ():
        if not _is_address(text):
            raise SettingsError(f"--node-ip: {text!r} is not an IP address")
    if settings.control_plane_endpoint:
        _check_endpoint(settings.control_plane_endpoint, settings.endpoint_host)
    for name in settings.cert_sans:
        if not _is_address(name):
            _match(_NAME, name, "--cert-san", "an IP address or a DNS name")


def _match(pattern: re.Pattern[str], text: str, option: str, wanted: str) -> None:
    if not pattern.match(text):
        raise SettingsError(f"{option}: {text!r} is not {wanted}")


def _check_address(text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise SettingsError(f"--advertise-address: {text!r} is not an IP address") from None
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        raise SettingsError(f"--advertise-address: {text} is not an address that other machines could reach")


def _check_endpoint(text: str, host: str) -> None:
    port = text.rpartition(":")[2]
    bracketed = text.startswith("[") and text[: -len(port)].endswith("]:")
    good = (_is_address(host) and (":" in host) == bracketed) or (not bracketed and bool(_NAME.match(host)))
    if not (good and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise SettingsError(f"--control-plane-endpoint: {text!r} is not HOST:PORT such as api.example.com:6443")


def _networks(text: str, option: str, bounds: Mapping[int, tuple[int, int]]) -> tuple[_Network, ...]:
    """One, or one of each family; `bounds`: the shortest and longest prefix by family (the programs' own)."""
    try:
        networks = tuple(map(ipaddress.ip_network, text.split(",")))
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None
    if len({one.version for one in networks}) != len(networks):
        raise SettingsError(f"{option}: {text} has two networks of one family")
    for one in networks:
        shortest, longest = bounds[one.version]
        if not shortest <= one.prefixlen <= longest:
            raise SettingsError(f"{option}: the prefix of {one} must be from /{shortest} to /{longest}")
    return networks


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
