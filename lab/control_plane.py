"""A real control plane on this machine's loopback: etcd, kube-apiserver and its controllers, with a PKI of their own.
I/O.

Before: `lab.control_plane_build` has the binaries. Next: tests make objects with `kubectl`, daemons follow it with
a kubeconfig from `kubeconfig()`. Ports are whatever is free; everything is below `base`. RBAC, the Node authorizer and
NodeRestriction are on.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from control_plane.x509 import new_key
from lab.machine import LabError, LabProcess, LocalMachine, Machine, wait_until
from lab.pki import Authority, Pair, write_key

ADMINISTRATOR = ("lab-admin", ("system:masters",))
CONTROLLERS = ("system:kube-controller-manager", ())
PROXY = ("system:kube-proxy", ())
_ADVERTISED = "192.0.2.1"  # the API server refuses to advertise a loopback address
_SERVICE_RANGE = "10.96.0.0/16"
_START_S = 240.0
# An API of 1.36 that a server has only where it is asked for.
_TRUST_BUNDLES = (
    "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
    "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
)
# Processor time on two cores is what there is least of.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "GOMAXPROCS": "2", "GOGC": "200"}


class ControlPlane:
    """One control plane; a context manager that leaves nothing running."""

    def __init__(
        self, base: Path, binaries: Path, machine: Machine | None = None, *, reached_at: str = "", audit: bool = False
    ) -> None:
        """`binaries` as from `control_plane_directory`; `machine` None is this machine. `reached_at` is one more
        address of it at which the API server listens; `audit`: what nodes ask for is written to `audit_log`.
        """
        self.base = base
        self._binaries = binaries
        self._machine = machine or LocalMachine()
        self._authority = Authority(base / "pki")
        self._processes: dict[str, LabProcess] = {}
        self.etcd_port, self._peer_port, self.port, self._controllers_port, self._scheduler_port = _free_ports(5)
        addresses = ("127.0.0.1", "::1", "localhost", "kubernetes", "10.96.0.1", _ADVERTISED)
        self._server = self._authority.issue("kube-apiserver", addresses=(*addresses, *filter(None, [reached_at])))
        self._bind = "0.0.0.0" if reached_at else "127.0.0.1"
        self._audit = audit
        self.audit_log = base / "audit.log"
        """One JSON object a line, audit.k8s.io/v1 Event of level Metadata."""
        # The API server as the client of the nodes' own API.
        self._node_client = self._authority.issue("kube-apiserver-kubelet-client", groups=("system:masters",))
        self.client_authority = self._authority.certificate
        self.nodes_socket = base / "nodes.sock"
        """Where a test that has nodes listens for the API server's connections to them (HTTP CONNECT)."""
        self._accounts_key = base / "pki" / "service-accounts.key"
        write_key(self._accounts_key, new_key())
        self.administrator = self.kubeconfig(*ADMINISTRATOR)

    def __enter__(self) -> Self:
        """Start etcd, the API server and the controller manager; returns when they work."""
        try:
            self.start_etcd()
            self.start_api_server()
            self.start_controllers()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process."""
        self.close()

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self.port}"

    def start_etcd(self) -> None:
        """Its data stays over restarts."""
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        self._start(
            "etcd", f"--data-dir={self.base / 'etcd'}", f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}", "--unsafe-no-fsync",
            "--log-level=warn",
        )  # fmt: skip
        self._until("etcd", f"{client}/health")

    def start_api_server(self) -> None:
        """Returns when /readyz says ok."""
        accounts = self._accounts_key
        self._start(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", f"--bind-address={self._bind}",
            f"--secure-port={self.port}", f"--advertise-address={_ADVERTISED}",
            f"--tls-cert-file={self._server.certificate}", f"--tls-private-key-file={self._server.key}",
            f"--client-ca-file={self._authority.certificate}", f"--service-account-key-file={accounts}",
            f"--service-account-signing-key-file={accounts}",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-cluster-ip-range={_SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--profiling=false",
            f"--cert-dir={self.base / 'pki'}", f"--kubelet-client-certificate={self._node_client.certificate}",
            f"--kubelet-client-key={self._node_client.key}", "--kubelet-preferred-address-types=InternalIP",
            f"--egress-selector-config-file={self._write_egress()}", *_TRUST_BUNDLES, *self._audit_flags(),
        )  # fmt: skip
        self._until("kube-apiserver", f"{self.url}/readyz")

    def _write_egress(self) -> Path:
        """Nodes of a lab are in network namespaces of their own, which nothing on this machine leads to."""
        connection = {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(self.nodes_socket)}}}
        path = self.base / "egress.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "apiserver.k8s.io/v1beta1",
                    "kind": "EgressSelectorConfiguration",
                    "egressSelections": [{"name": "cluster", "connection": connection}],
                }
            )
        )
        return path

    def _audit_flags(self) -> list[str]:
        if not self._audit:
            return []
        rules = [{"level": "Metadata", "userGroups": ["system:nodes"]}, {"level": "None"}]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
        path = self.base / "audit-policy.yaml"
        path.write_text(yaml.safe_dump(policy))
        return [f"--audit-policy-file={path}", f"--audit-log-path={self.audit_log}"]

    def start_controllers(self, controllers: str = "*,-node-lifecycle-controller", *more: str) -> None:
        """`controllers` as in --controllers; without kubelets the node lifecycle would declare every pod not ready."""
        self._start(
            "kube-controller-manager", f"--kubeconfig={self.kubeconfig(*CONTROLLERS)}", "--bind-address=127.0.0.1",
            f"--secure-port={self._controllers_port}", f"--controllers={controllers}", "--leader-elect=false",
            f"--service-account-private-key-file={self._accounts_key}", "--use-service-account-credentials=true",
            f"--root-ca-file={self._authority.certificate}", f"--cert-dir={self.base / 'pki'}",
            f"--cluster-signing-cert-file={self._authority.certificate}",
            f"--cluster-signing-key-file={self._authority.key}", *more,
        )  # fmt: skip
        self._until("kube-controller-manager", f"https://127.0.0.1:{self._controllers_port}/healthz")

    def start_scheduler(self) -> None:
        """Only where a test wants pods placed."""
        config = self.kubeconfig("system:kube-scheduler", ())
        self._start(
            "kube-scheduler", f"--kubeconfig={config}", "--bind-address=127.0.0.1", "--leader-elect=false",
            f"--secure-port={self._scheduler_port}", f"--cert-dir={self.base / 'pki'}",
        )  # fmt: skip
        self._until("kube-scheduler", f"https://127.0.0.1:{self._scheduler_port}/healthz")

    def process(self, name: str) -> LabProcess:
        """A running program, to kill or to freeze."""
        return self._processes[name]

    def kubeconfig(self, user: str, groups: Sequence[str], *, server: str = "", valid: Pair | None = None) -> Path:
        """A kubeconfig for this user; `server` where something stands before the API server."""
        pair = valid or self._authority.issue(user, groups=groups)
        cluster = {"server": server or self.url, "certificate-authority": str(self._authority.certificate)}
        who = {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}
        path = pair.certificate.with_suffix(".kubeconfig")
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "lab",
                    "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
                    "clusters": [{"name": "lab", "cluster": cluster}],
                    "users": [{"name": user, "user": who}],
                }
            )
        )
        return path

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl, as the administrator, says; LabError when it fails."""
        return self._machine.run([*self.kubectl_command(), *arguments], stdin=stdin, timeout_s=180.0).stdout

    def kubectl_command(self) -> list[str]:
        """How kubectl is started as the administrator."""
        cache = f"--cache-dir={self.base / 'kubectl-cache'}"
        return [str(self._binaries / "kubectl"), f"--kubeconfig={self.administrator}", cache]

    def compact(self) -> None:
        """Make etcd forget every state but the present one."""
        base = f"http://127.0.0.1:{self.etcd_port}/v3/kv"
        found = yaml.safe_load(_ask(f"{base}/range", b'{"key":"AA=="}'))
        revision = int(found["header"]["revision"])
        _ask(f"{base}/compaction", b'{"revision":"%d","physical":true}' % revision)

    def close(self) -> None:
        """End every process, clients before servers."""
        for process in reversed(list(self._processes.values())):
            process.kill()  # nothing of it is kept, and an API server takes long to say goodbye
        self._processes.clear()

    def _start(self, name: str, *arguments: str) -> None:
        # A test run that is killed takes its control plane with it.
        argv = ["setpriv", "--pdeathsig", "KILL", "--", str(self._binaries / name), *arguments]
        log = self.base / f"{name}.log"
        self._processes[name] = self._machine.start(argv, log=log, env=_ENVIRONMENT, cwd=self.base)

    def _until(self, name: str, url: str) -> None:
        process = self._processes[name]

        def works() -> bool:
            if not process.alive:
                said = process.log_text(4000)
                raise LabError(f"cannot start {name}: exit status {process.returncode}\n{said}")
            with contextlib.suppress(OSError):
                return bool(_ask(url))
            return False

        wait_until(works, f"{name} to work", timeout_s=_START_S)


def _ask(url: str, body: bytes | None = None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(url, body, timeout=5, context=context) as answer:  # noqa: S310 - a URL of ours
        found: bytes = answer.read()
        return found


def _free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody uses now, and none that the kernel gives to whoever asks for any: the last of them
    is listened on minutes later.
    """
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
        return found
