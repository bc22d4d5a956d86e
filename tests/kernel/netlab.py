"""A node, pods and a neighbour as network namespaces of this very process: real packets without child processes.

A thread may leave its network namespace, and a socket stays in the one it was made in.  So the main thread enters
the node's namespace for the time of a test, and steps over into a pod or the neighbour just to make a socket there.

    neighbour 192.168.50.2 --veth-- 192.168.50.1 node 10.244.0.1 --a veth each-- pods 10.244.0.10 ...

Pods are routed to, as the ptp plugin does it: behind a bridge their answers to each other would go past the node's
rules (that is what br_netfilter is loaded for on real nodes).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import selectors
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40
_libc = ctypes.CDLL(None, use_errno=True)

NEIGHBOUR_IPS = ["192.168.50.2", *(f"192.168.50.{n}" for n in range(100, 112))]
NODE_IP, NODE_IP6 = "192.168.50.1", "fd00:50::1"
POD_PORT = 8080
NFTABLES = "nftables"
every_backend = pytest.mark.parametrize("node", ["nft", "legacy", NFTABLES], indirect=True)
"""For tests of what every backend does; "nft" and "legacy" are the variants of iptables."""


def _check(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


class Namespace:
    """One network namespace, alive while this object's descriptor is open."""

    def __init__(self) -> None:
        with self._returning():
            _check(_libc.unshare(_CLONE_NEWNET), "unshare")
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def of_process(cls, pid: int) -> Namespace:
        """The one that a process is in."""
        made = cls.__new__(cls)
        made.fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        return made

    @staticmethod
    @contextmanager
    def _returning() -> Iterator[None]:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET), "setns")
            os.close(before)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in the namespace."""
        with self._returning():
            _check(_libc.setns(self.fd, _CLONE_NEWNET), "setns")
            yield

    def socket(self, family: int, kind: int) -> socket.socket:
        """A socket of this namespace."""
        with self.entered():
            made = socket.socket(family, kind)
        made.settimeout(15)
        return made

    def ip(self, *lines: str) -> None:
        """Run lines of `ip -batch` inside."""
        with self.entered():
            sh("ip -batch -", "\n".join(lines))

    def await_running(self, *interfaces: str) -> None:
        """Wait until each sends: a worker of the kernel sees to that some time after the other end has come up, and
        drops what is sent before.
        """
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            deadline_s = time.monotonic() + 120
            for name in interfaces:
                while not _flags(sock, name) & _IFF_RUNNING:
                    assert time.monotonic() < deadline_s, f"{name} does not run"
                    time.sleep(0.001)

    def sysctl(self, **values: str) -> None:
        """Set /proc/sys/net/NAME, "__" standing for a slash."""
        with self.entered():
            for name, value in values.items():
                Path("/proc/sys/net", *name.split("__")).write_text(value)

    @property
    def path(self) -> str:
        """For `ip link set … netns PATH`."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def close(self) -> None:
        """Let the kernel remove it."""
        os.close(self.fd)


def _flags(sock: socket.socket, interface: str) -> int:
    answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sh22x", interface.encode(), 0))
    return int(struct.unpack("16sh22x", answer)[1])


def sh(command: str, stdin: str = "") -> str:
    """Output of a command that must succeed, run where this thread is."""
    done = subprocess.run(command, shell=True, input=stdin, capture_output=True, text=True, check=False)  # noqa: S602 - test input
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Answers(threading.Thread):
    """Serves all pods: tells each client who answered and which source address was seen."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._selector = selectors.DefaultSelector()
        self._wake, wakes = socket.socketpair()
        self._selector.register(wakes, selectors.EVENT_READ, "stop")
        self._owned = [wakes]

    def serve(self, namespace: Namespace, name: str, port: int, ip: str = "") -> None:
        """Listen on TCP and UDP, IPv4 and IPv6 (`ip` "") or one IPv4 address."""
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            made = namespace.socket(socket.AF_INET if ip else socket.AF_INET6, kind)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((ip or "::", port))
            if kind == socket.SOCK_STREAM:
                made.listen(512)
            made.setblocking(False)
            self._owned.append(made)
            self._selector.register(made, selectors.EVENT_READ, name)

    def run(self) -> None:
        """Until closed."""
        while True:
            for key, _ in self._selector.select():
                if key.data == "stop":
                    return
                assert isinstance(key.fileobj, socket.socket)
                with suppress(OSError):
                    self._answer(key.fileobj, key.data)

    def _answer(self, sock: socket.socket, name: str) -> None:
        if sock.type == socket.SOCK_DGRAM:
            _, peer = sock.recvfrom(100)
            sock.sendto(f"{name} {peer[0].removeprefix('::ffff:')}".encode(), peer)
            return
        connection, peer = sock.accept()
        with connection:
            connection.sendall(f"{name} {peer[0].removeprefix('::ffff:')}".encode())

    def close(self) -> None:
        """Stop serving and close every socket."""
        self._wake.send(b"x")
        self.join()
        self._wake.close()
        for sock in self._owned:
            sock.close()
        self._selector.close()


@dataclass(frozen=True)
class Pod:
    name: str
    ip: str
    ip6: str
    namespace: Namespace


@dataclass
class Node:
    """The node under test; this thread is in its namespace."""

    variant: str
    namespace: Namespace
    neighbour: Namespace
    answers: Answers
    pods: list[Pod] = field(default_factory=list)

    def add_pods(self, count: int) -> list[Pod]:
        """Pods, each answering on POD_PORT."""
        lines = []
        for _ in range(count):
            number = len(self.pods)
            pod = Pod(f"pod-{number}", f"10.244.0.{10 + number}", f"fd00:244::{10 + number}", Namespace())
            self.pods.append(pod)
            lines += [
                f"link add veth{number} type veth peer name eth0 netns {pod.namespace.path}",
                f"link set veth{number} up",
                f"addr add 10.244.0.1/32 dev veth{number}",
                f"addr add fd00:244::1/128 dev veth{number} nodad",
                f"route add {pod.ip}/32 dev veth{number}",
                f"route add {pod.ip6}/128 dev veth{number}",
            ]
        self.namespace.ip(*lines)
        for pod in self.pods[-count:]:
            pod.namespace.ip(
                "link set lo up",
                "link set eth0 up",
                f"addr add {pod.ip}/32 dev eth0",
                f"addr add {pod.ip6}/128 dev eth0 nodad",
                "route add 10.244.0.1/32 dev eth0",
                "route add fd00:244::1/128 dev eth0",
                "route add default via 10.244.0.1",
                "route add ::/0 via fd00:244::1",
            )
            self.answers.serve(pod.namespace, pod.name, POD_PORT)
            pod.namespace.await_running("eth0")
        self.namespace.await_running(*(f"veth{number}" for number in range(len(self.pods) - count, len(self.pods))))
        return self.pods[-count:]

    def save(self, family: int = 4, options: str = "") -> str:
        """The rules of the variant under test, as its program lists them."""
        if self.variant == NFTABLES:
            tables = sh("nft list tables")
            ip = "ip" if family == 4 else "ip6"
            return sh(f"nft list table {ip} longshore-proxy") if f"{ip} longshore-proxy" in tables else ""
        return sh(f"{'iptables' if family == 4 else 'ip6tables'}-{self.variant}-save {options}")

    def iptables(self, arguments: str) -> str:
        """Run iptables of the variant under test, as somebody else would."""
        return sh(f"iptables-{self.variant} -w {arguments}")

    def program(self, command: str) -> str:
        """Run a command as somebody else on the node would."""
        return sh(command)

    def close(self) -> None:
        """Everything goes with its last descriptor."""
        self.answers.close()
        for namespace in (self.namespace, self.neighbour, *(pod.namespace for pod in self.pods)):
            namespace.close()


def make_node(variant: str) -> Node:
    """Node and neighbour, connected, nothing programmed."""
    namespace, neighbour = Namespace(), Namespace()
    # The neighbour is also the way out, and redirects would use up its share of ICMP messages before a REJECT can.
    namespace.sysctl(ipv4__conf__all__send_redirects="0", ipv4__conf__default__send_redirects="0")
    # A new namespace has the machine's value, and on a node that is what a proxy has set it to.
    namespace.sysctl(ipv4__conf__all__route_localnet="0", ipv4__conf__default__route_localnet="0")
    namespace.sysctl(ipv4__ip_forward="1", ipv6__conf__all__forwarding="1", ipv6__conf__default__accept_dad="0")
    namespace.ip(
        "link set lo up",
        f"link add eth0 type veth peer name eth0 netns {neighbour.path}",
        "link set eth0 up",
        f"addr add {NODE_IP}/24 dev eth0",
        f"addr add {NODE_IP6}/64 dev eth0 nodad",
        "route add default via 192.168.50.2",
        "route add ::/0 via fd00:50::2",
    )
    neighbour.ip(
        "link set eth0 up",
        *(f"addr add {ip}/24 dev eth0" for ip in NEIGHBOUR_IPS),
        "addr add fd00:50::2/64 dev eth0 nodad",
        f"route add default via {NODE_IP}",
        f"route add ::/0 via {NODE_IP6}",
    )
    for end in (namespace, neighbour):
        end.await_running("eth0")
    answers = Answers()
    answers.start()
    return Node(variant, namespace, neighbour, answers)


def ask(client: Namespace, address: str, port: int, protocol: str = "TCP", source: str = "") -> tuple[str, str]:
    """(who answered, the source address it saw); raises OSError as the kernel says."""
    kind = socket.SOCK_STREAM if protocol == "TCP" else socket.SOCK_DGRAM
    with client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as sock:
        if source:
            sock.bind((source, 0))
        sock.connect((address, port))
        return converse(sock) if protocol == "UDP" else _heard(sock)


def converse(sock: socket.socket) -> tuple[str, str]:
    """Send a datagram on a connected socket, hear the answer."""
    sock.send(b"who")
    return _heard(sock)


def _heard(sock: socket.socket) -> tuple[str, str]:
    name, _, seen = sock.recv(100).decode().partition(" ")
    return name, seen


def tally(client: Namespace, address: str, port: int, times: int, protocol: str = "TCP") -> Counter[str]:
    """How often each pod answered."""
    return Counter(ask(client, address, port, protocol)[0] for _ in range(times))
