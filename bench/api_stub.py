"""An API server of the least kind: what kube-proxy lists and watches, over HTTP on loopback. I/O.

Before: bench/kube_proxy.py has made the objects. Next: kube-proxy, which cannot work without one; what reading the
lists alone costs is measured beside it. Lists are JSON text before anybody asks, so that little of the time is ours.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import urllib.request
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
_PATHS = {
    "/api/v1/services": ("Service", "v1"),
    "/apis/discovery.k8s.io/v1/endpointslices": ("EndpointSlice", "discovery.k8s.io/v1"),
    "/api/v1/nodes": ("Node", "v1"),
    "/apis/networking.k8s.io/v1/servicecidrs": ("ServiceCIDR", "networking.k8s.io/v1"),
}
NODE, NODE_IP = "bench", "10.0.0.1"


class ApiStub:
    """Holds objects by kind and name; `put` tells every watch."""

    def __init__(self, objects: Iterable[Json]) -> None:
        self._version = 1
        self._lock = threading.Lock()
        self._items: dict[str, dict[str, str]] = {kind: {} for kind, _ in _PATHS.values()}
        self._lists: dict[str, bytes] = {}
        self._watches: list[tuple[str, queue.SimpleQueue[bytes]]] = []
        status = {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": {}, "status": status}
        for one in (node, *objects):
            self._store(one)
        self._streams: dict[str, bytes] = {}
        for path in _PATHS:
            self._listed(path)
            self._streamed(path)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def put(self, value: Json) -> None:
        """Change one object."""
        with self._lock:
            self._version += 1
            text = self._store(value)
            self._lists.clear()
            self._streams.clear()
            event = f'{{"type":"MODIFIED","object":{text}}}\n'.encode()
            for kind, waiting in self._watches:
                if kind == value["kind"]:
                    waiting.put(event)

    def list_s(self) -> float:
        """Seconds that a client takes to receive everything and to understand it as JSON."""
        begun_s = time.perf_counter()
        for path in _PATHS:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:  # noqa: S310 - our own URL
                json.load(answer)
        return time.perf_counter() - begun_s

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def _store(self, value: Json) -> str:
        metadata = {"namespace": "default", "uid": value["metadata"]["name"], **value["metadata"]}
        if value["kind"] == "Node":
            del metadata["namespace"]
        text = json.dumps({**_defaulted(value), "metadata": {**metadata, "resourceVersion": str(self._version)}})
        self._items[value["kind"]][metadata["name"]] = text
        return text

    def _listed(self, path: str) -> bytes:
        kind, version = _PATHS[path]
        if path not in self._lists:
            head = f'{{"kind":"{kind}List","apiVersion":"{version}","metadata":{{"resourceVersion":"{self._version}"}}'
            self._lists[path] = f'{head},"items":[{",".join(self._items[kind].values())}]}}'.encode()
        return self._lists[path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One GET."""
        target = urlsplit(handler.path)
        if target.path not in _PATHS:
            _send(
                handler, 404, b'{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}'
            )
        elif "watch" in (asked := parse_qs(target.query)):
            self._follow(handler, target.path, from_start="sendInitialEvents" in asked)
        else:
            with self._lock:
                body = self._listed(target.path)
            _send(handler, 200, body)

    def _streamed(self, path: str) -> bytes:
        """Everything as first events, and the bookmark that ends them."""
        kind, version = _PATHS[path]
        if path not in self._streams:
            lines = [f'{{"type":"ADDED","object":{text}}}\n' for text in self._items[kind].values()]
            end = {"resourceVersion": str(self._version), "annotations": {"k8s.io/initial-events-end": "true"}}
            bookmark = {"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": version, "metadata": end}}
            self._streams[path] = "".join((*lines, json.dumps(bookmark), "\n")).encode()
        return self._streams[path]

    def _follow(self, handler: BaseHTTPRequestHandler, path: str, *, from_start: bool) -> None:
        """Events until the client goes; nothing is changed between its list and this."""
        waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        kind = _PATHS[path][0]
        with self._lock:
            if from_start:
                waiting.put(self._streamed(path))
            self._watches.append((kind, waiting))
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            while True:
                data = waiting.get()
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                handler.wfile.flush()
        except OSError:
            with self._lock:
                self._watches.remove((kind, waiting))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                stub.answer(self)

            def do_POST(self) -> None:
                """Events, which nobody reads."""
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                _send(self, 201, body)

            def log_message(self, *_: object) -> None:
                """Silent."""

        return Handler


def _defaulted(value: Json) -> Json:
    """The object as an API server would give it out."""
    if value["kind"] == "Service":
        spec = value["spec"]
        ports = [{"protocol": "TCP", **port} for port in spec["ports"]]
        more = {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}
        families = {"clusterIPs": [spec["clusterIP"]], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
        return {**value, "spec": {**more, **families, **spec, "ports": ports}}
    if value["kind"] == "EndpointSlice":
        ports = [{"protocol": "TCP", **port} for port in value["ports"]]
        endpoints = [{"conditions": {"ready": True}, **endpoint} for endpoint in value["endpoints"]]
        return {**value, "ports": ports, "endpoints": endpoints}
    return value


def _send(handler: BaseHTTPRequestHandler, code: int, body: bytes) -> None:
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
