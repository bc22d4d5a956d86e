"""A cluster as an onlooker sees it: pods by a watch, what a node asks for by the API server's audit log, bytes by the
kernel's counters. I/O.

Before: `lab.control_plane` runs with `reached_at` and `audit`. Next: bench/cluster.py. All of it is to be used in the
network namespace of the control plane, and none of it asks the one who is measured.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections import Counter
from typing import Any

from lab.control_plane import ControlPlane
from lab.machine import Machine, wait_until
from lab.manifests import is_ready

Json = dict[str, Any]
WRITING = {"create", "update", "patch", "delete", "deletecollection"}
PODS = "/api/v1/namespaces/default/pods"
NODES = "/api/v1/nodes"
_TABLE = "longshore-bench"
_COUNTERS = f"""
table inet {_TABLE} {{
    counter node {{}}
    chain output {{
        type filter hook output priority 0;
        ip daddr %(address)s tcp dport %(port)d counter name node
        ip saddr %(address)s tcp sport %(port)d counter name node
    }}
}}
"""


class Api:
    """Requests of the administrator, each on a connection of its own."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._context = ssl.create_default_context(cafile=str(plane.client_authority))
        pair = plane.administrator
        self._context.load_cert_chain(pair.with_suffix(".crt"), pair.with_suffix(".key"))

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """The answer; a refusal is a Status.  Raises OSError, http.client.HTTPException."""
        connection = self.connect()
        with contextlib.closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            found: Json = json.loads(connection.getresponse().read())
            return found

    def make(self, path: str, body: Json) -> None:
        """Create an object.  Raises RuntimeError when it is refused."""
        answer = self.ask("POST", path, body)
        if answer["kind"] == "Status":
            raise RuntimeError(f"cannot create {body['metadata']['name']}: {answer.get('message')}")

    def connect(self, timeout_s: float = 30.0) -> http.client.HTTPSConnection:
        """A new connection."""
        return http.client.HTTPSConnection("127.0.0.1", self._plane.port, timeout=timeout_s, context=self._context)


class Watch(threading.Thread):
    """When pods were first seen, first seen Ready, and seen to be gone: pod name -> Unix seconds, by one clock."""

    def __init__(self, api: Api) -> None:
        super().__init__(daemon=True)
        self._api = api
        self._closed = False
        self.made: dict[str, float] = {}
        self.ready: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self.start()

    def close(self) -> None:
        """No further look."""
        self._closed = True

    def run(self) -> None:
        """Follow; from the beginning when the API server has gone away, which changes nothing that was seen."""
        while not self._closed:
            with (
                contextlib.suppress(OSError, http.client.HTTPException, ValueError),
                contextlib.closing(self._api.connect(timeout_s=600)) as connection,
            ):
                connection.request("GET", f"{PODS}?watch=1")
                for line in connection.getresponse():
                    self._note(json.loads(line))
            time.sleep(0.05)

    def wait(self, seen: dict[str, float], prefix: str, count: int, what: str, timeout_s: float = 400.0) -> list[float]:
        """Until `count` pods of this prefix are in one of the three; when each was, sorted."""

        def all_there() -> list[float] | None:
            found = sorted(at_s for name, at_s in list(seen.items()) if name.startswith(prefix))
            return found if len(found) >= count else None

        return wait_until(all_there, f"{count} pods {what}", timeout_s=timeout_s, every_s=0.05)

    def _note(self, event: Json) -> None:
        now_s = time.time()
        pod = event["object"]
        name = pod.get("metadata", {}).get("name")
        if name is None:
            return  # an error in the stream, which ends it
        self.made.setdefault(name, now_s)
        if event["type"] == "DELETED":
            self.gone.setdefault(name, now_s)
        elif is_ready(pod):
            self.ready.setdefault(name, now_s)


class Traffic:
    """What nodes have asked for, and the bytes between them and the address at which only they reach the server."""

    def __init__(self, plane: ControlPlane, machine: Machine, address: str) -> None:
        """One at a time; the counters go with the network namespace."""
        self._log = plane.audit_log
        self._machine = machine
        machine.run(["nft", "--file=-"], stdin=_COUNTERS % {"address": address, "port": plane.port})

    def requests(self) -> Counter[tuple[str, str]]:
        """(verb, resource/subresource) -> how many so far, of all nodes; a watch is one."""
        seen: dict[str, tuple[str, str]] = {}
        for line in self._log.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):  # the last one may be in the making
                event = json.loads(line)
                what = event.get("objectRef", {})
                parts = [what.get("resource", event["requestURI"]), what.get("subresource", "")]
                seen[event["auditID"]] = (event["verb"], "/".join(filter(None, parts)))
        return Counter(seen.values())

    def bytes(self) -> int:
        """In both directions so far, headers and acknowledgements included."""
        found = json.loads(self._machine.run(["nft", "--json", "list", "counters", "table", "inet", _TABLE]).stdout)
        return sum(int(entry["counter"]["bytes"]) for entry in found["nftables"] if "counter" in entry)

    def settled(self) -> None:
        """Wait until nodes have asked for nothing but their own upkeep for three seconds."""
        last, since_s = -1, time.monotonic()

        def quiet() -> bool:
            nonlocal last, since_s
            now = sum(for_pods(self.requests()).values())
            if now != last:
                last, since_s = now, time.monotonic()
            return time.monotonic() - since_s >= 3

        wait_until(quiet, "the node to ask for nothing more", timeout_s=120, every_s=0.5)


def for_pods(requests: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Without the upkeep of the Node and its Lease, which depends on time and not on pods."""
    own = {"leases", "nodes", "nodes/status", "csinodes"}
    return Counter({key: count for key, count in requests.items() if key[1] not in own})


def writes(requests: Counter[tuple[str, str]]) -> int:
    """How many of them change something."""
    return sum(count for (verb, _), count in requests.items() if verb in WRITING)
