"""Where service proxies are measured: a node and its pods as two network namespaces, made and removed here. I/O.

Before: bench/kube_proxy.py. Next: it connects to service addresses from the node (`Ground.asked`). Every address of
10.128.0.0/9 answers on 8080 with itself, so that any endpoint can be told, and no rule of the host is read or written.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import time
from typing import Self

from bench.api_stub import NODE_IP
from bench.proxy_iptables import enter_fresh_namespace
from lab.machine import LabError

_SERVER = """
import socket
server = socket.create_server(("", 8080), backlog=4096)
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    try:
        connection.sendall(connection.getsockname()[0].encode())
    except OSError:
        pass
    connection.close()
"""
_PODS = "10.128.0.0/9"
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: no connection stays behind
_TRY_S = 0.25


class Ground:
    """This process is in the node's namespace from `__enter__` on, for good."""

    def __enter__(self) -> Self:
        enter_fresh_namespace()
        command = ["unshare", "--net", sys.executable, "-c", _SERVER]
        self._pods = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._pods.stdout is not None
        self._pods.stdout.readline()
        pid = str(self._pods.pid)
        for line in (
            "link set lo up",
            f"link add eth0 type veth peer name eth0 netns {pid}",
            f"addr add {NODE_IP}/30 dev eth0",
            "link set eth0 up",
        ):
            _run("ip", *line.split())
        inside = ("nsenter", "-t", pid, "-n")
        for line in ("link set lo up", "addr add 10.0.0.2/30 dev eth0", "link set eth0 up"):
            _run(*inside, "ip", *line.split())
        _run(*inside, "ip", "route", "add", "local", _PODS, "dev", "lo")
        # What no rule has turned to an endpoint is refused at once instead of being waited for.
        _run(*inside, "ip", "route", "add", "unreachable", "10.96.0.0/11")
        _run(*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
        _run("ip", "route", "add", "default", "via", "10.0.0.2")
        return self

    def __exit__(self, *_: object) -> None:
        self._pods.kill()
        self._pods.wait()

    def asked(self, vip: str) -> str:
        """The address of the endpoint that answered one connection to port 80 of a service; "" for nobody."""
        with contextlib.suppress(OSError), socket.socket() as client:
            client.settimeout(_TRY_S)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            client.connect((vip, 80))
            return client.recv(64).decode()
        return ""

    def until(self, vip: str, wanted: str, timeout_s: float, every_s: float = 0.0) -> float:
        """The time.perf_counter() at which `wanted` ("" for anybody) answered."""
        deadline_s = time.perf_counter() + timeout_s
        while time.perf_counter() < deadline_s:
            answer = self.asked(vip)
            if answer and answer == (wanted or answer):
                return time.perf_counter()
            time.sleep(every_s)
        raise LabError(f"cannot reach {wanted or 'anybody'} through {vip}: not within {timeout_s:.0f} s")

    def wipe(self) -> None:
        """No rule stays; the namespace is ours alone."""
        _run("nft", "flush", "ruleset")
        for name in ("iptables-legacy", "ip6tables-legacy"):
            for table in ("nat", "filter", "mangle"):
                with contextlib.suppress(LabError):
                    _run(name, "-t", table, "-F")
                    _run(name, "-t", table, "-X")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"cannot run {' '.join(command)}: {done.stderr.strip()}")
