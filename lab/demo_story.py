"""What the demo shows, scene by scene, on a terminal or in a log. I/O.

Before: `lab.demo_machine` has a LabNode ready. Next: `lab.demo` cleans up and proves it. A scene that does not turn
out raises LabError.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lab.containerd import PrivateContainerd
from lab.demo_scenes import Scenes
from lab.fetch import fetch
from lab.images import WEB_IMAGE_2, load_images
from lab.local_api import Json
from lab.machine import LabError
from lab.manifests import is_ready, web_pod, web_service
from lab.node import LabNode

REQUESTS = 300
PODS = ("web-a", "web-b", "web-c")


class Story(Scenes):
    """The scenes in order; `play` runs them all."""

    def __init__(self, console: Console, node: LabNode, vip: str) -> None:
        super().__init__(console)
        self.node = node
        self.url = f"http://{vip}/"
        self.vip = vip

    def play(self) -> None:
        """Everything, about half a minute."""
        self.start(self.node.containerd)
        self.pods_become_ready()
        self.requests_are_shared(PODS)
        self.container_comes_back("web-b")
        self.edited_pod_is_replaced("web-c")
        self.deleted_pod_loses_its_share("web-a", ("web-b", "web-c"))
        self.agent_is_killed()

    def start(self, containerd: PrivateContainerd) -> None:
        """A private containerd with three small images, then both daemons."""
        self.title("A private containerd, images from busybox, the agent and the proxy")
        self.timed(
            f"containerd {'.'.join(map(str, containerd.binaries.version))}, {containerd.socket}", containerd.start
        )
        self.timed("images built and imported, no registry", lambda: load_images(containerd))
        self.timed("longshore-agent", self.node.start_agent)
        self.timed("longshore-proxy", self.node.start_proxy)

    def pods_become_ready(self) -> None:
        """Three manifests and a Service are dropped in; a live table until all pods are Ready."""
        self.title(f"Three pods into {self.node.manifests}, one Service into {self.node.services}")
        self.node.put_service(web_service("web", self.vip))
        for name in PODS:
            self.node.put_pod(web_pod(name))
        started_s = time.monotonic()
        ready_s: dict[str, float] = {}

        def picture() -> Table:
            table = Table("pod", "phase", "ready", "address", "after", box=None, padding=(0, 2))
            for name in PODS:
                pod = self.node.pod(name)
                if is_ready(pod):
                    ready_s.setdefault(name, time.monotonic() - started_s)
                status = pod.get("status", {})
                seconds = f"{ready_s[name]:.2f} s" if name in ready_s else ""
                ready = "[green]yes[/]" if name in ready_s else _waits_for(self.node.pods(), f"{name}-{self.node.name}")
                table.add_row(name, status.get("phase", ""), ready, status.get("podIP", ""), seconds)
            return table

        with Live(picture(), console=self.console, refresh_per_second=10) as live:

            def all_ready() -> bool:
                live.update(picture())
                return len(ready_s) == len(PODS)

            self.node.wait(all_ready, "the pods to be Ready")
        self._await_endpoints(PODS)

    def requests_are_shared(self, names: Sequence[str]) -> None:
        """REQUESTS connections to the virtual address, and a bar per pod; every one must be answered, by one of
        `names`.
        """
        self.title(f"{REQUESTS} requests to the Service's address {self.vip}")
        shares = self.ask(self.url, REQUESTS)
        self.bars(shares)
        if set(shares) != {f"{name}-{self.node.name}" for name in names}:
            raise LabError(f"cannot share requests among {', '.join(names)}: {dict(shares)} answered")

    def container_comes_back(self, name: str) -> None:
        """SIGKILL to a container's first process from outside."""
        self.title(f"One container of {name} is killed")
        old = self.node.container_id(name)
        killed_s = time.monotonic()
        self.node.kill_container(old)
        new = self.node.wait(lambda: _other(self.node.container_id(name), old), f"a new container of {name}")
        seconds = time.monotonic() - killed_s
        status = self.node.pod(name)["status"]["containerStatuses"][0]
        count = status["restartCount"]
        self.line(f"{old[:12]} killed, {new[:12]} running after [bold]{seconds:.2f} s[/], restart count {count}")
        self.node.wait_ready(name)
        self._await_endpoints(PODS)

    def edited_pod_is_replaced(self, name: str) -> None:
        """Its manifest names another image: another uid, so another pod."""
        self.title(f"The manifest of {name} is edited: image {WEB_IMAGE_2}")
        old = self.node.pod(name)
        edited_s = time.monotonic()
        self.node.put_pod(web_pod(name, image=WEB_IMAGE_2))

        def replaced() -> Json | None:
            pod = self.node.pod(name)
            return pod if is_ready(pod) and pod["metadata"]["uid"] != old["metadata"]["uid"] else None

        new = self.node.wait(replaced, f"the new {name} to be Ready")
        seconds = time.monotonic() - edited_s
        version = fetch(f"http://{new['status']['podIP']}:8080/version", 30.0)
        uids = f"uid {old['metadata']['uid'][:8]} -> {new['metadata']['uid'][:8]}"
        self.line(f"replaced and Ready after [bold]{seconds:.2f} s[/], {uids}, it serves version {version}")
        if version != "2":
            raise LabError(f"cannot replace {name}: it still serves version {version}")
        self._await_endpoints(PODS)

    def deleted_pod_loses_its_share(self, name: str, others: Sequence[str]) -> None:
        """Its manifest is deleted: the pod goes, and the others answer for it."""
        self.title(f"The manifest of {name} is deleted")
        deleted_s = time.monotonic()
        (self.node.manifests / f"{name}.yaml").unlink()
        self.node.wait_gone(name)
        self.line(f"the pod is gone after [bold]{time.monotonic() - deleted_s:.2f} s[/]")
        self._await_endpoints(others)
        self.requests_are_shared(others)

    def agent_is_killed(self) -> None:
        """kill -9 and a new start: the same processes run on, and the Service answers all the while."""
        self.title("The agent is killed with -9 and started again")
        before = self.node.processes()
        self.node.kill_agent()
        answered = self.ask(self.url, 60)
        self.line(f"without an agent {sum(answered.values())} of 60 requests were answered")
        self.timed("longshore-agent", self.node.start_agent)
        self.node.wait_ready("web-b", "web-c")
        after = self.node.processes()
        table = Table("container", "process before", "process after", box=None, padding=(0, 2))
        for container_id in sorted({*before, *after}):
            table.add_row(container_id[:12], *(str(seen.get(container_id, ("gone",))[0]) for seen in (before, after)))
        self.console.print(table)
        if before != after:
            raise LabError("cannot adopt what runs: a restart of the agent changed the processes above")
        self.line(f"{len(after)} of {len(before)} containers are the same process")

    def _await_endpoints(self, names: Sequence[str]) -> None:
        """Until exactly these pods are behind the address in the kernel: no request goes to it before."""
        expected = {self.node.pod(name)["status"]["podIP"] for name in names}
        self.node.wait(lambda: self.node.routes_to(expected), f"the proxy to program {', '.join(sorted(expected))}")


def _other(found: str, old: str) -> str | None:
    return found if found and found != old else None


def _waits_for(entries: Mapping[str, Json], name: str) -> str:
    waiting = entries.get(name, {}).get("waiting") or [{}]
    return f"[yellow]{waiting[0].get('message') or waiting[0].get('reason') or '...'}[/]"
