"""What the steps of a node's life have in common: the pods they watch, a load on the service, what must not change."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lab.images import WEB_IMAGE
from lab.machine import wait_until as wait_here
from lab.manifests import Json, web_pod, web_service
from lab.vm import GATEWAY
from lab.vm_node import VmNode

T = TypeVar("T")
VIP = "10.96.0.10"
WEB = ("web-a", "web-b")
NOTES = "/var/lib/notes"
EXPORT = "/srv/files"
NOTING = {"common": 0, "critical": 2000001000}  # priorities
_LOAD = Path(__file__).parents[1] / "lab" / "steady_load.py"


def wait_until(condition: Callable[[], T | None], what: str | Callable[[], str], *, every_s: float = 0.5) -> T:
    """Patiently: this machine inside a machine is slow, and slower beside others."""
    return wait_here(condition, what, timeout_s=480, every_s=every_s)


def noting_pod(name: str, priority: int, policy: str = "Always") -> Json:
    """Notes when it started, and when it was told to end whether the network was still there."""
    script = (
        f"echo $(date +%s) start >> /notes/{name}; "
        f"trap 'ping -q -c 3 -W 10 {GATEWAY} > /dev/null && net=up || net=down; "
        f"sleep 1; echo $(date +%s) end $net >> /notes/{name}; exit 0' TERM; sleep 1d & wait; wait"
    )
    container = {
        "name": "main",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", script],
        "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", f"echo 0 hook >> /notes/{name}"]}}},
    }
    spec = {
        "containers": [container],
        "priority": priority,
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 40,
        "volumes": [{"name": "notes", "hostPath": {"path": NOTES, "type": "DirectoryOrCreate"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def writing_pod(name: str, server: str) -> Json:
    """Writes to what the server exports, all the while, and never closes the file."""
    pod = noting_pod(name, 0)
    container = pod["spec"]["containers"][0]
    container["command"] = ["/bin/sh", "-c", f"exec > /files/{name}; while :; do date; sleep 0.2; done"]
    container["volumeMounts"] = [{"name": "files", "mountPath": "/files"}]
    del container["lifecycle"]
    pod["spec"]["volumes"] = [{"name": "files", "nfs": {"server": server, "path": EXPORT}}]
    pod["spec"]["terminationGracePeriodSeconds"] = 1
    return pod


def job_pod() -> Json:
    """Runs once and ends well."""
    pod = noting_pod("job", 0, "Never")
    pod["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", "echo ran >> /notes/job"]
    return pod


def notes(node: VmNode, name: str) -> list[list[str]]:
    """What the pod has written so far, line by line."""
    return [line.split() for line in node.machine.shell(f"cat {NOTES}/{name}", check=False).splitlines()]


def run_pods(node: VmNode) -> None:
    """Two web pods behind a Service that answers from off the node, and a job that is done."""
    node.load_images()
    for name in WEB:
        node.put_pod(web_pod(name))
    node.put_service(web_service("web", VIP))
    node.put_pod(job_pod())
    node.wait_ready(*WEB)
    assert_service_answers(node)
    wait_until(lambda: node.pods().get("job", {}).get("status", {}).get("phase") == "Succeeded", "the job to end")


def assert_service_answers(node: VmNode) -> None:
    """Both pods, and no request fails."""

    def both_answer() -> bool:
        answers = node.machine.host.fetch(f"http://{VIP}/", 20)
        names = {one for one in answers if not one.startswith("error")}
        return len(names) == len(WEB) and len(answers) == 20 and not any(one.startswith("error") for one in answers)

    wait_until(both_answer, "the service to answer from both pods")


@contextmanager
def steady_load(node: VmNode) -> Iterator[None]:
    """Requests to the VIP from off the node, all the while; none may be lost."""
    load = node.machine.host.start(
        [sys.executable, str(_LOAD), f"http://{VIP}/", "5"], log=node.machine.root / "load.log"
    )
    assert load.log is not None
    load.log.write_text("")
    try:
        time.sleep(1)
        yield
        time.sleep(1)
    finally:
        load.stop(240)
    result: dict[str, Any] = json.loads(load.log_text().splitlines()[-1])
    assert result["errors"] == [], result
    assert result["answered"] > 10


def assert_same_containers(node: VmNode, before: dict[str, list[str]]) -> None:
    """Nothing of what ran was started again."""
    node.wait_ready(*WEB)
    # It may be a while until the agent answers again; what has been started anew never is the same again.
    wait_until(
        lambda: node.containers() == before, lambda: f"the containers to be {before} still, not {node.containers()}"
    )


def installed(node: VmNode) -> str:
    """Version of the package, as dpkg knows it."""
    return node.machine.shell("dpkg-query -W -f '${Version}' longshore")


def later(node: VmNode) -> str:
    """A version after the one that is installed."""
    return installed(node).replace("~", ".1~", 1)
