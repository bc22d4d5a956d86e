"""The scenes of `make demo-cluster` about what pods use: the node's certificate, metrics-server, `kubectl top`. I/O.

Before: `lab.demo_cluster` has brought the cluster up. Next: the cluster goes its way, and at its end `top_shows` what
metrics-server has seen meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from lab.demo_kubectl import Json, KubectlScenes
from lab.images import WEB_IMAGE
from lab.machine import LabError
from lab.metrics_server import API_SERVICE, is_built, load_metrics_server_image, metrics_server_objects

_SIGNER = "kubernetes.io/kubelet-serving"
BUSY_MILLICORES, BUSY_MIB = 100, 24
# A machine that is busy gives it less than its limit; the shell and the kernel's own need more than the file.
_CPU = range(BUSY_MILLICORES // 10, BUSY_MILLICORES * 3 // 2)
_MEMORY = range(BUSY_MIB, BUSY_MIB * 2)


class TopScenes(KubectlScenes):
    """In this order, with others between."""

    def certificate_approved(self) -> None:
        """The agent asks the cluster for the certificate of its own API (`serverTLSBootstrap`); a person approves."""
        self.title("kubectl certificate approve: the cluster signs the certificate of the node's API")
        self.until("a request for a certificate", lambda: bool(self._requests()))
        self.quote(self.kubectl("certificate", "approve", *self._requests()))
        health = ("get", "--raw", f"/api/v1/nodes/{self.node.name}/proxy/healthz")
        self.until("the node's API to serve with it", lambda: self._answer(*health) == "ok")

    def metrics_server_starts(self) -> None:
        """And a pod that uses all that it may."""
        self.title("metrics-server, and a pod that is busy")
        if not is_built():
            self.line("left out, and kubectl top with it: this machine has not built metrics-server (see above)")
            return
        self.timed("image of metrics-server", lambda: load_metrics_server_image(self.node.containerd))
        self.apply(*metrics_server_objects(), _busy())

    def top_shows(self) -> None:
        """What the busy pod uses, as metrics-server tells it; what the node counts where there is none."""
        if not is_built():
            self.title("What kubectl top is made of: the node's /metrics/resource, through the API server")
            told = self.kubectl("get", "--raw", f"/api/v1/nodes/{self.node.name}/proxy/metrics/resource")
            self.quote("\n".join(line for line in told.splitlines() if line.startswith(("node_", "pod_"))))
            return
        self.title("kubectl top: the API server asks metrics-server, which asks the node every ten seconds")
        started_s = time.monotonic()
        self.until("metrics-server to know the busy pod", lambda: is_busy(self._use_of_busy()))
        self.line(f"waited for {time.monotonic() - started_s:.0f} s")
        self.quote(self.kubectl("get", "apiservice", API_SERVICE))
        self.quote(self.kubectl("top", "node"))
        self.quote(self.kubectl("top", "pod", "--all-namespaces", "--sort-by=cpu"))
        self.line(f"busy may use {BUSY_MILLICORES}m of a core, wants more, and holds {BUSY_MIB} MiB")

    def apply(self, *objects: Json) -> None:
        """Server-side apply."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self.quote(self.kubectl("apply", "--server-side", "--filename=-", stdin=body))

    def _requests(self) -> list[str]:
        """Names of those for a server's certificate that nobody has decided about."""
        found = json.loads(self.kubectl("get", "certificatesigningrequests", "--output=json"))["items"]
        waiting = [one for one in found if one["spec"]["signerName"] == _SIGNER and not one.get("status")]
        return [one["metadata"]["name"] for one in waiting]

    def _use_of_busy(self) -> Sequence[str]:
        """Name, processor and memory; empty while nobody knows."""
        return self._answer("top", "pod", "--selector=app=busy", "--no-headers").split()

    def _answer(self, *arguments: str) -> str:
        """What kubectl says; "" when it fails."""
        try:
            return self.kubectl(*arguments)
        except LabError:
            return ""


def is_busy(use: Sequence[str]) -> bool:
    """Whether the columns of `kubectl top` show what the pod really does. Pure."""
    if len(use) != 3 or not use[1].endswith("m") or not use[2].endswith("Mi"):
        return False
    return int(use[1].removesuffix("m")) in _CPU and int(use[2].removesuffix("Mi")) in _MEMORY


def _busy() -> Json:
    labels = {"app": "busy"}
    script = (
        f"trap 'exit 0' TERM; dd if=/dev/zero of=/dev/shm/held bs=1M count={BUSY_MIB} 2>/dev/null; while :; do :; done"
    )
    container = {
        "name": "busy",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "resources": {"limits": {"cpu": f"{BUSY_MILLICORES}m", "memory": "64Mi"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 5}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"}, "spec": spec}
