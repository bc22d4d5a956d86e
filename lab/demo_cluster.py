"""What `make demo-cluster` shows: one machine becomes a cluster, runs what people run in clusters, and is one machine
again. I/O.

Before: `lab.demo_machine` has a LabNode ready, without a pod network. Next: `lab.demo` cleans up and proves it. A
scene that does not turn out raises LabError.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lab.control_plane_images import load_control_plane_images
from lab.demo_top import TopScenes
from lab.images import WEB_IMAGE, WEB_IMAGE_2, load_images
from lab.machine import LabError
from lab.manifests import is_ready
from lab.node import LabNode

Json = dict[str, Any]
REQUESTS = 200


class ClusterStory(TopScenes):
    """The scenes in order; `play` runs them all."""

    def __init__(self, console: Console, node: LabNode, *, pod_network: str, service_network: str) -> None:
        super().__init__(console, node, node.base / "kubernetes")
        self._networks = (f"--pod-cidr={pod_network}", f"--service-cidr={service_network}")

    def play(self, *, keep: bool) -> None:
        """Everything, about two minutes; with `keep` all but the end."""
        self.start()
        self.up()
        self.certificate_approved()
        self.metrics_server_starts()
        self.deployment_runs()
        self.scales()
        self.rolls()
        self.other_workloads()
        self.verbs_work()
        self.top_shows()
        self.snapshot_restored()
        if not keep:
            self.deleted_again()
            self.down()

    def hints(self) -> tuple[str, ...]:
        """How to look around in what is kept."""
        return (f"{' '.join(self.kubectl_command)} get nodes,pods,services --all-namespaces",)

    def start(self) -> None:
        """A private containerd with the images that a person's machine would pull."""
        containerd = self.node.containerd
        self.title("A private containerd, and the control plane's images made of its Go modules")
        self.timed("containerd", lambda: containerd.start(keep_cni_config=True))
        self.timed("images for pods", lambda: load_images(containerd))
        self.timed("images of the control plane", lambda: load_control_plane_images(containerd))

    def up(self) -> None:
        """Files first; where systemd runs, `longshore up` would start the daemons itself."""
        self.title("longshore up --control-plane")
        first = self._longshore_up()
        made = [line for line in first.splitlines() if line.startswith("made ")]
        self.line(f"{len(made)} certificates, kubeconfigs and static pods made below {self.kubernetes}")
        self.node.proxy_config["clientConnection"] = {"kubeconfig": str(self.kubernetes / "proxy.conf")}
        kubeconfig = f"--kubeconfig={self.kubernetes / 'kubelet.conf'}"
        self.node.agent_config["serverTLSBootstrap"] = True
        own = (f"--cert-dir={self.node.base / 'pki'}", f"--client-ca-file={self.kubernetes / 'pki' / 'ca.crt'}")
        self.timed("longshore-agent", lambda: self.node.start_agent(kubeconfig, *own))
        self.timed("longshore-proxy", lambda: self.node.start_proxy(wait=False))
        self.title("longshore up --control-plane, once more: it waits for what was started")
        started_s = time.monotonic()
        self.quote(self._longshore_up())
        self.line(f"Ready after [bold]{time.monotonic() - started_s:.0f} s[/]")
        third = self._longshore_up()
        if "made " in third:
            raise LabError(f"cannot bring up what is up already: it changed something\n{third}")
        self.line("a third run changes nothing")
        self.title("kubectl get nodes, kubectl get pods --all-namespaces")
        self.quote(self.kubectl("get", "nodes", "--output=wide"))
        self.quote(self.kubectl("get", "pods", "--all-namespaces"))

    def deployment_runs(self) -> None:
        """A Deployment of three with a Service in front, answered through longshore-proxy."""
        self.title("A Deployment of three pods, and a Service")
        self.apply(_deployment(3, WEB_IMAGE), _service())
        self._await_rollout(3, WEB_IMAGE)
        self._requests_are_shared()

    def scales(self) -> None:
        """Five."""
        self.title("kubectl scale deployment web --replicas=5")
        self.kubectl("scale", "deployment", "web", "--replicas=5")
        self._await_rollout(5, WEB_IMAGE)
        self._requests_are_shared()

    def rolls(self) -> None:
        """Another image, pod by pod."""
        self.title(f"kubectl set image deployment web web={WEB_IMAGE_2}")
        self.kubectl("set", "image", "deployment", "web", f"web={WEB_IMAGE_2}")
        self._await_rollout(5, WEB_IMAGE_2)
        self._requests_are_shared()

    def other_workloads(self) -> None:
        """A Job that ends, another one of a CronJob, a DaemonSet with its pod on this node, a StatefulSet in order."""
        self.title("A Job, a CronJob, a DaemonSet and a StatefulSet")
        self.apply(
            _job(), _cron_job(), _set_of_pods("DaemonSet", "each"), _set_of_pods("StatefulSet", "db", replicas=2)
        )
        self.kubectl("create", "job", "sum-now", "--from=cronjob/sum-nightly")
        for job in ("sum", "sum-now"):
            self._await_status("job", job, "succeeded", 1)
        self._await_status("daemonset", "each", "numberReady", 1)
        self._await_status("statefulset", "db", "readyReplicas", 2)
        self.quote(self.kubectl("get", "jobs,cronjobs,daemonsets,statefulsets,pods"))

    def deleted_again(self) -> None:
        """Everything."""
        self.title("All of it is deleted")
        self.kubectl("delete", "deployment,daemonset,statefulset,cronjob,job", "--all", "--wait=false")
        self.kubectl("delete", "service", "web")

        def gone() -> None:
            self.until("the pods to be gone", lambda: not self.pods())

        self.timed("pods gone", gone)

    def down(self) -> None:
        """Static pods, certificates, etcd's data, the pod network."""
        self.title("longshore down")
        # What longshore down does by itself where systemd runs: agent and proxy without an API server.
        self.node.stop_proxy()
        self.node.stop_agent()
        del self.node.agent_config["serverTLSBootstrap"]
        self.node.start_agent()
        arguments = ("down", "--yes", f"--kubernetes-dir={self.kubernetes}")
        self.timed("everything taken away", lambda: self.node.longshore(self._manifests, *arguments))
        if self.kubernetes.exists():
            raise LabError(f"cannot take {self.kubernetes} away: {sorted(self.kubernetes.rglob('*'))} are left")

    @property
    def _manifests(self) -> str:
        return f"--manifest-dir={self.node.manifests}"

    def _longshore_up(self) -> str:
        return self.longshore("up", "--control-plane", *self._networks)

    def _await_rollout(self, replicas: int, image: str) -> None:
        """A live table until `replicas` pods of `image` are Ready and no other is left."""
        started_s = time.monotonic()

        def picture() -> tuple[Table, bool]:
            table = Table("pod", "image", "phase", "ready", "address", box=None, padding=(0, 2))
            pods = self.pods("app=web")
            for name, pod in sorted(pods.items()):
                status, used = pod.get("status", {}), pod["spec"]["containers"][0]["image"]
                phase = "Terminating" if pod["metadata"].get("deletionTimestamp") else str(status.get("phase", ""))
                table.add_row(name, used, phase, "[green]yes[/]" if is_ready(pod) else "", status.get("podIP", ""))
            good = [pod for pod in pods.values() if is_ready(pod) and pod["spec"]["containers"][0]["image"] == image]
            return table, len(good) == len(pods) == replicas

        with Live(picture()[0], console=self.console, refresh_per_second=4) as live:

            def settled() -> bool:
                table, done = picture()
                live.update(table)
                return done

            self.until(f"{replicas} pods of {image}", settled)
        self.line(f"as wished after [bold]{time.monotonic() - started_s:.1f} s[/]")

    def _requests_are_shared(self) -> None:
        """Once the proxy has programmed exactly the Ready pods, every request is answered, and by them."""
        names = set(self.pods("app=web"))
        addresses = {pod["status"]["podIP"] for pod in self.pods("app=web").values()}

        self.until("the proxy to program the endpoints", lambda: self.node.routes_to(addresses))
        address = self.object("service", "web")["spec"]["clusterIP"]
        self.line(f"{REQUESTS} requests to the Service's address {address}")
        shares = self.ask(f"http://{address}/", REQUESTS)
        self.bars(shares)
        if set(shares) != names:
            raise LabError(f"cannot share requests among {', '.join(sorted(names))}: {dict(shares)} answered")

    def _await_status(self, kind: str, name: str, field: str, value: int) -> None:
        self.until(f"{kind} {name}", lambda: self.object(kind, name).get("status", {}).get(field) == value)


def _deployment(replicas: int, image: str) -> Json:
    labels = {"app": "web"}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": _template(labels, _web(image))}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def _set_of_pods(kind: str, name: str, **more: Any) -> Json:
    """A DaemonSet or a StatefulSet."""
    labels = {"app": name}
    spec = {"selector": {"matchLabels": labels}, "template": _template(labels, _web(WEB_IMAGE)), **more}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _job() -> Json:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum"}, "spec": _job_spec()}


def _cron_job() -> Json:
    spec = {"schedule": "0 3 * * *", "jobTemplate": {"spec": _job_spec()}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "sum-nightly"}, "spec": spec}


def _job_spec() -> Json:
    command = ["sh", "-c", "echo $((2 + 2))"]
    container = {"name": "sum", "image": WEB_IMAGE, "imagePullPolicy": "Never", "command": command}
    return {"template": _template({"app": "sum"}, container, restartPolicy="Never")}


def _service() -> Json:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    spec = {"selector": {"app": "web"}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def _web(image: str) -> Json:
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    ports = [{"name": "http", "containerPort": 8080}]
    return {"name": "web", "image": image, "imagePullPolicy": "Never", "ports": ports, "readinessProbe": probe}


def _template(labels: Mapping[str, str], container: Json, **more: Any) -> Json:
    spec = {"containers": [container], "terminationGracePeriodSeconds": 5, **more}
    return {"metadata": {"labels": dict(labels)}, "spec": spec}
