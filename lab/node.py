"""A node of the lab: containerd, `longshore-agent` and `longshore-proxy` as real processes, with directories of their
own. I/O.

Before: `lab.host`, `lab.containerd` and `lab.images` have made the ground. Next: tests, demo and bench put manifests
in, look at the local APIs, kill what they like and at the end ask `left_behind()`.
"""

from __future__ import annotations

import http.client
import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import yaml

from lab import cgroups, sandboxes
from lab.containerd import PrivateContainerd
from lab.local_api import Json, get_json
from lab.machine import PATIENCE_S, LabError, LabProcess, Machine, wait_until
from lab.manifests import is_ready, put_manifest


def kubelet_configuration(base: Path, manifests: Path, pod_logs: Path, cgroup_root: str, endpoint: str) -> Json:
    """What agent and kubelet are told alike; `base` holds a resolv.conf."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "staticPodPath": str(manifests),
        "podLogsDir": str(pod_logs),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        "resolvConf": str(base / "resolv.conf"),
        "containerRuntimeEndpoint": endpoint,
        "failCgroupV1": False,
        "failSwapOn": False,
        "healthzPort": 0,
    }


class LabNode:
    """One agent and one proxy on a containerd that may be shared with other nodes of the same lab, one after the other.

    Everything the daemons write is below `base`. `agent_config` and `proxy_config` are the configuration objects as
    mappings: change them before `start_agent`/`start_proxy`. `endpoint` is the runtime socket the agent is given (put
    a CriGate's there).
    """

    def __init__(
        self, machine: Machine, containerd: PrivateContainerd, base: Path, *, name: str = "node-a", cgroup_root: str
    ) -> None:
        self.machine = machine
        self.containerd = containerd
        self.base = base
        self.name = name
        self.cgroup_root = cgroup_root
        self.endpoint = containerd.endpoint
        self.manifests = base / "manifests"
        self.services = base / "services"
        self.root_dir = base / "agent"
        self.pod_logs = base / "pod-logs"
        self.agent_socket = self.root_dir / "agent.sock"
        self.proxy_socket = base / "proxy.sock"
        self.agent: LabProcess | None = None
        self.proxy: LabProcess | None = None
        self.agent_flags: list[str] = [
            f"--root-dir={self.root_dir}",
            f"--hostname-override={name}",
        ]
        self.proxy_flags: list[str] = [
            f"--manifest-dir={self.services}",
            f"--api-socket={self.proxy_socket}",
            f"--agent-socket={self.agent_socket}",
        ]
        self.agent_config: Json = self._agent_config()
        self.proxy_config: Json = self._proxy_config()
        for directory in (self.manifests, self.services, self.root_dir, self.pod_logs):
            directory.mkdir(parents=True, exist_ok=True)
        (base / "resolv.conf").write_text("nameserver 198.18.0.2\n")

    def _agent_config(self) -> Json:
        common = kubelet_configuration(self.base, self.manifests, self.pod_logs, self.cgroup_root, self.endpoint)
        return {**common, "fileCheckFrequency": "5s"}

    def _proxy_config(self) -> Json:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "hostnameOverride": self.name,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
        }

    def start_agent(self, *flags: str, wait: bool = True, timeout_s: float = PATIENCE_S) -> LabProcess:
        """Write the configuration and start the agent; with `wait`, until its local API answers."""
        self.agent_config["containerRuntimeEndpoint"] = self.endpoint
        config = _write_yaml(self.base / "agent.yaml", self.agent_config)
        argv = [daemon("longshore-agent"), f"--config={config}", *self.agent_flags, *flags]
        self.agent = self.machine.start(argv, log=self.base / "agent.log", env=daemon_environment())
        if wait:
            self._await_api(self.agent, self.agent_socket, timeout_s)
        return self.agent

    def start_proxy(self, *flags: str, wait: bool = True, timeout_s: float = PATIENCE_S) -> LabProcess:
        """Write the configuration and start the proxy; with `wait`, until its local API answers."""
        config = _write_yaml(self.base / "proxy.yaml", self.proxy_config)
        argv = [daemon("longshore-proxy"), f"--config={config}", *self.proxy_flags, *flags]
        self.proxy = self.machine.start(argv, log=self.base / "proxy.log", env=daemon_environment())
        if wait:
            self._await_api(self.proxy, self.proxy_socket, timeout_s)
        return self.proxy

    def kill_agent(self) -> None:
        """kill -9."""
        if self.agent is not None:
            self.agent.kill()

    def stop_agent(self) -> int | None:
        """SIGTERM; pods stay. The exit status."""
        return None if self.agent is None else self.agent.stop()

    def stop_proxy(self) -> int | None:
        """SIGTERM; rules stay. The exit status."""
        return None if self.proxy is None else self.proxy.stop()

    def cleanup_proxy(self, *, rewrite_config: bool = True) -> None:
        """`longshore-proxy --cleanup`: no rule of ours stays."""
        config = self.base / "proxy.yaml"
        if rewrite_config:
            _write_yaml(config, self.proxy_config)
        self.machine.run([daemon("longshore-proxy"), f"--config={config}", "--cleanup"])

    def longshore(self, *arguments: str, check: bool = True, stdin: str = "", timeout_s: float = PATIENCE_S) -> str:
        """Run the `longshore` command against this node; stdout."""
        argv = self.longshore_command(*arguments)
        return self.machine.run(argv, check=check, stdin=stdin, timeout_s=timeout_s).stdout

    def back_up(self, archive: Path, *options: str) -> None:
        """`longshore backup` of all that is the node's."""
        places = [f"--root-dir={self.root_dir}", f"--manifest-dir={self.manifests}", f"--service-dir={self.services}"]
        files = [f"--agent-config={self.base / 'agent.yaml'}", f"--proxy-config={self.base / 'proxy.yaml'}"]
        self.longshore(*places, "backup", str(archive), f"--config-dir={self.base / 'etc'}", *files, *options)

    def longshore_command(self, *arguments: str) -> list[str]:
        """How `longshore` is started against this node."""
        sockets = [f"--agent-socket={self.agent_socket}", f"--proxy-socket={self.proxy_socket}"]
        return [daemon("longshore"), *sockets, *arguments]

    # Manifests.

    def put_pod(self, manifest: Mapping[str, Any] | str, file_name: str | None = None) -> Path:
        """Write a pod manifest (mapping, or text as it is) into the agent's directory, atomically."""
        return put_manifest(self.manifests, manifest, file_name)

    def put_service(self, manifest: Mapping[str, Any] | str, file_name: str | None = None) -> Path:
        """Write a Service or EndpointSlice manifest into the proxy's directory, atomically."""
        return put_manifest(self.services, manifest, file_name)

    def clear_manifests(self) -> None:
        """Delete every pod manifest."""
        for path in self.manifests.iterdir():
            path.unlink()

    # What the daemons say.

    def agent_api(self, path: str) -> Json:
        """GET of the agent's local API."""
        return get_json(self.agent_socket, path)

    def proxy_api(self, path: str) -> Json:
        """GET of the proxy's local API."""
        return get_json(self.proxy_socket, path)

    def routes_to(self, addresses: Collection[str]) -> bool:
        """Whether the kernel sends some service port to exactly these endpoints."""
        ports = [port for service in self.proxy_api("/v1/services")["services"] for port in service["ports"]]
        known = any({endpoint["ip"] for endpoint in port["endpoints"]} == set(addresses) for port in ports)
        # Asked second: what is synced now is at least as new as what was known before.
        return known and bool(self.proxy_api("/v1/status")["synced"])

    def pods(self) -> dict[str, Json]:
        """The agent's entries ({"pod", "source", "waiting"}) by pod name; empty while its API does not answer."""
        try:
            entries = self.agent_api("/v1/pods")["pods"]
        except (OSError, http.client.HTTPException):
            return {}
        return {entry["pod"]["metadata"]["name"]: entry for entry in entries}

    def pod(self, name: str) -> Json:
        """The Pod object of `name` (without the node's suffix) with its status; {} when there is none."""
        found: Json = self.pods().get(f"{name}-{self.name}", {}).get("pod", {})
        return found

    def wait(
        self,
        condition: Callable[[], Any],
        what: str | Callable[[], str],
        timeout_s: float = PATIENCE_S,
        *,
        every_s: float = 0.05,
    ) -> Any:
        """`wait_until` which shows the ends of the daemons' logs when it fails."""
        try:
            return wait_until(condition, what, timeout_s=timeout_s, every_s=every_s)
        except LabError as error:
            raise LabError(f"{error}\n{self.logs()}") from error

    def wait_ready(self, *names: str, timeout_s: float = PATIENCE_S) -> list[Json]:
        """Wait until every named pod is Ready; their Pod objects."""

        def ready() -> list[Json] | None:
            pods = [self.pod(name) for name in names]
            return pods if all(is_ready(pod) for pod in pods) else None

        found: list[Json] = self.wait(ready, f"pods {', '.join(names)} to be Ready", timeout_s)
        return found

    def wait_gone(self, *names: str, timeout_s: float = PATIENCE_S) -> None:
        """Wait until neither agent nor runtime knows the pods any more."""

        def gone() -> bool:
            full = {f"{name}-{self.name}" for name in names}
            in_runtime = {sandbox.name for sandbox in sandboxes.list_sandboxes(self.containerd.endpoint)}
            return not full & in_runtime and not any(self.pod(name) for name in names)

        self.wait(gone, f"pods {', '.join(names)} to be gone", timeout_s)

    def container_id(self, name: str, container: str | None = None) -> str:
        """Id of the running container of a pod (the first, or the named one), "" when it does not run."""
        for status in self.pod(name).get("status", {}).get("containerStatuses", []):
            if container in (None, status["name"]) and "running" in status.get("state", {}):
                return str(status.get("containerID", "")).rpartition("//")[2]
        return ""

    def processes(self) -> dict[str, tuple[int, int]]:
        """Process id and start time (clock ticks since boot) of every running container and sandbox by id: equal
        means the same process.
        """
        found = {}
        for task_id, pid in self.containerd.tasks().items():
            stat = self.machine.run(["cat", f"/proc/{pid}/stat"], check=False).stdout
            if stat:
                found[task_id] = (pid, int(stat.rpartition(")")[2].split()[19]))
        return found

    def kill_container(self, container_id: str) -> None:
        """SIGKILL to the container's first process, from outside, as an OOM killer would."""
        self.machine.run(["kill", "-KILL", str(self.containerd.tasks()[container_id])])

    # The end.

    def logs(self, last_bytes: int = 6000) -> str:
        """The ends of the logs of agent, proxy and containerd."""
        parts = []
        for name, process in (("agent", self.agent), ("proxy", self.proxy), ("containerd", self.containerd.process)):
            if process is not None:
                parts.append(f"----- {name} (exit status {process.returncode})\n{process.log_text(last_bytes)}")
        return "\n".join(parts)

    def left_behind(self) -> list[str]:
        """What of this node's pods still exists: sandboxes, containers, cgroups, mounts, pod directories. Empty when
        clean.
        """
        endpoint = self.containerd.endpoint
        lines = [f"sandbox {seen}" for seen in sandboxes.list_sandboxes(endpoint)]
        lines += [f"container {seen}" for seen in sandboxes.list_containers(endpoint)]
        lines += [f"task {task}" for task in self.containerd.ctr("tasks", "ls", "-q").split()]
        lines += [
            f"container of containerd's own {one}" for one in self.containerd.ctr("containers", "ls", "-q").split()
        ]
        for top in cgroups.hierarchies():
            for directory in cgroups.directories(top / self.cgroup_root.lstrip("/")):
                if directory.name.startswith("pod") or (
                    directory.name.startswith("kubepods-") and "pod" in directory.name
                ):
                    lines.append(f"cgroup {directory}")
        mounts = self.machine.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()
        places = [line.split(" ")[4] for line in mounts]
        lines += [
            f"mount {place}"
            for place in places
            if place.startswith((f"{self.base}/", f"{self.containerd.base}/state/"))
        ]
        lines += [f"pod directory {path}" for path in (self.root_dir / "pods").glob("*")]
        return lines

    def wait_clean(self) -> None:
        """Until nothing is left behind; what is by then is said."""
        self.wait(lambda: not self.left_behind(), lambda: f"nothing to be left, there are {self.left_behind()}")

    def close(self) -> None:
        """Stop both daemons, remove rules, pods, cgroups and `base`, whatever state they are in."""
        for process in (self.agent, self.proxy):
            if process is not None:
                process.stop(10.0)
        if self.proxy is not None:
            self.cleanup_proxy()
        sandboxes.remove_all(self.containerd.endpoint)
        cgroups.kill_and_remove(self.cgroup_root)
        shutil.rmtree(self.base, ignore_errors=True)

    def _await_api(self, process: LabProcess, path: Path, timeout_s: float = PATIENCE_S) -> None:
        def answers() -> bool:
            if not process.alive:
                raise LabError(f"cannot start {process.name}: exit status {process.returncode}\n{process.log_text()}")
            try:
                return bool(get_json(path, "/v1/status"))
            except (OSError, http.client.HTTPException):
                return False

        self.wait(answers, f"the local API of {process.name}", timeout_s)


def daemon(name: str) -> str:
    """Path of an installed entry point of the interpreter that runs this."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise LabError(f"cannot find {path}: run `make venv`")
    return str(path)


def _write_yaml(path: Path, value: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(value), sort_keys=False))
    return path


def daemon_environment() -> dict[str, str]:
    """What the units give a daemon, without what concerns only whoever runs the lab."""
    # An installed daemon finds its modules compiled; one that compiles them at each start is slower and larger.
    dropped = {"NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "WATCHDOG_PID", "PYTHONDONTWRITEBYTECODE"}
    return {
        **{key: value for key, value in os.environ.items() if key not in dropped},
        "PYTHONUNBUFFERED": "1",
        "PYTHONOPTIMIZE": "2",  # as in systemd/*.service
    }
