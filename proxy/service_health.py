"""healthCheckNodePort: tells load balancers whether this node has an endpoint of a service.  I/O on TCP.

Before: `proxy.sync` resolved a `RoutingTable` with its `HealthCheck` values.  Next: whoever balances load over nodes
asks, and sends clients of a service with externalTrafficPolicy Local only to nodes that answer 200.
Upstream: the answers are kube-proxy's, field by field (pkg/proxy/healthcheck of Kubernetes 1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import socket
from collections.abc import Callable, Iterable

from aiohttp import web

from daemonkit.listening import listening_socket
from proxy.routes import HealthCheck

_log = logging.getLogger(__name__)
_RETRY_S = 5.0
_Key = tuple[int, int]
"""(port, family)."""


class ServiceHealthServer:
    """One listener per health check port and family; `put` says which, `run` opens and closes them."""

    def __init__(self, is_healthy: Callable[[], bool], node_port_addresses: tuple[str, ...]) -> None:
        """`is_healthy`: does the kernel hold our rules?  The CIDRs are those node ports answer in; () is everywhere."""
        self._is_healthy = is_healthy
        self._node_port_addresses = node_port_addresses
        self._wanted: dict[_Key, HealthCheck] = {}
        self._open: dict[_Key, web.AppRunner] = {}
        self._told: dict[_Key, str] = {}
        self._stale = False
        self._wake = asyncio.Event()

    def put(self, checks: Iterable[HealthCheck]) -> None:
        """These are to be answered from now on; counts of what is open already change at once."""
        wanted = {(check.port, check.family): check for check in checks}
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    def set_addresses(self, node_port_addresses: tuple[str, ...]) -> None:
        """nodePortAddresses is something else now: what listens elsewhere is opened anew."""
        if node_port_addresses != self._node_port_addresses:
            self._node_port_addresses = node_port_addresses
            self._told.clear()
            self._stale = True
            self._wake.set()

    async def run(self) -> None:
        """Follow `put` for ever; what cannot be opened is tried again each 5 s and named once."""
        try:
            while True:
                self._wake.clear()
                await self._follow()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_S if self._wanted.keys() - self._open.keys() else None):
                        await self._wake.wait()
        finally:
            for runner in self._open.values():
                await runner.cleanup()

    async def _follow(self) -> None:
        stale, self._stale = self._stale, False
        for key in [key for key in self._open if stale or key not in self._wanted]:
            await self._open.pop(key).cleanup()
        for key in self._wanted.keys() - self._open.keys():
            runner = web.AppRunner(self._app(key), access_log=None, handle_signals=False, shutdown_timeout=1.0)
            await runner.setup()
            try:
                for address in await asyncio.to_thread(listen_addresses, self._node_port_addresses, key[1]):
                    await web.SockSite(runner, listening_socket(address, key[0], one_family=True)).start()
            except OSError as error:
                await runner.cleanup()
                self._tell(key, error.strerror or str(error))
            else:
                self._told.pop(key, None)
                self._open[key] = runner

    def _tell(self, key: _Key, cause: str) -> None:
        if self._told.get(key) != cause:
            self._told[key] = cause
            check = self._wanted[key]
            text = "cannot answer health checks of service %s/%s on port %d (IPv%d): %s; trying again"
            _log.error(text, check.namespace, check.service, *key, cause)

    def _app(self, key: _Key) -> web.Application:
        async def answer(_: web.Request) -> web.Response:
            check = self._wanted.get(key)
            return web.Response(status=503) if check is None else health_answer(check, self._is_healthy())

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        return app


def health_answer(check: HealthCheck, proxy_healthy: bool) -> web.Response:
    """200 when there is an endpoint here and our rules lead to it, 503 otherwise."""
    body = {
        "service": {"namespace": check.namespace, "name": check.service},
        "localEndpoints": check.local_endpoints,
        "serviceProxyHealthy": proxy_healthy,
    }
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Load-Balancing-Endpoint-Weight": str(check.local_endpoints),
    }
    status = 200 if check.local_endpoints and proxy_healthy else 503
    text = json.dumps(body, indent="\t")
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


def listen_addresses(node_port_addresses: tuple[str, ...], family: int) -> list[str]:
    """Where to listen: everywhere, or on this node's addresses in the CIDRs of that family.  Reads them."""
    networks = [ipaddress.ip_network(cidr) for cidr in node_port_addresses]
    mine = [network for network in networks if network.version == family]
    if not mine or any(network.prefixlen == 0 for network in mine):
        return ["0.0.0.0" if family == 4 else "::"]  # a load balancer is outside of this node
    import psutil  # rarely needed, and 4 MB

    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    entries = [entry for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == kind]
    addresses = [ipaddress.ip_address(entry.address) for entry in entries if "%" not in entry.address]
    found = [str(address) for address in addresses if any(address in network for network in mine)]
    if not found:
        raise OSError(0, f"the node has no IPv{family} address in nodePortAddresses")
    return found
