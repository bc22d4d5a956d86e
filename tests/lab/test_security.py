"""Security contexts as the kernel sees them in a container, and what must not start at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.containerd_config import USERS_HANDLER
from lab.host import NODE_IP
from lab.images import WEB_IMAGE, import_archives, web_archive
from lab.node import LabNode
from tests.lab.conftest import ONE_VERSION
from tests.lab.test_cgroups import read, uid_of

Json = dict[str, Any]
# mkdir(2) and mkdirat(2) fail with EPERM, all else is allowed.
NO_MKDIR = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}


@pytest.fixture
def agent(node: LabNode) -> LabNode:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    return node


def shell(name: str, script: str, container: Json | None = None, **spec: Any) -> Json:
    one = {
        "name": "main",
        "image": WEB_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", f"{script}; exec sleep 1000"],
        **(container or {}),
    }
    whole = {"containers": [one], "terminationGracePeriodSeconds": 0, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": whole}


def runtime_class(name: str, handler: str, **more: Any) -> Json:
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"}
    return {**kind, "metadata": {"name": name}, "handler": handler, **more}


def said(node: LabNode, name: str) -> str:
    return node.longshore("logs", name, check=False)


def waiting(node: LabNode, name: str) -> Json:
    statuses = node.pod(name).get("status", {}).get("containerStatuses", [])
    found: Json = statuses[0].get("state", {}).get("waiting", {}) if statuses else {}
    return found


def test_a_seccomp_profile_of_the_disk_holds_and_one_that_is_none_starts_nothing(agent: LabNode) -> None:
    home = agent.root_dir / "seccomp"
    home.mkdir()
    (home / "no-mkdir.json").write_text(json.dumps(NO_MKDIR))
    (home / "empty.json").write_text("")
    (home / "link.json").symlink_to("/etc/passwd")

    def pod(name: str, profile: str) -> Json:
        context = {"seccompProfile": {"type": "Localhost", "localhostProfile": profile}}
        return shell(name, "mkdir /tmp/x 2>&1 || echo refused; echo seen", {"securityContext": context})

    def refused(name: str) -> bool:
        state = waiting(agent, name)
        refusal = "cannot load seccomp profile"
        return state.get("reason") == "CreateContainerConfigError" and refusal in state.get("message", "")

    for name, profile in (
        ("good", "no-mkdir.json"),
        ("empty", "empty.json"),
        ("absent", "x.json"),
        ("link", "link.json"),
    ):
        agent.put_pod(pod(name, profile))
    agent.wait_ready("good")
    agent.wait(lambda: "refused" in said(agent, "good"), "the profile to refuse mkdir")
    for name in ("empty", "absent", "link"):
        agent.wait(lambda one=name: refused(one), f"{name} to be refused")  # type: ignore[misc]
        assert agent.container_id(name) == ""
        assert said(agent, name).count("seen") == 0
    (home / "x.json").write_text(json.dumps(NO_MKDIR))
    agent.wait_ready("absent")


def test_groups_and_files_of_fsgroup(agent: LabNode) -> None:
    agent.put_pod(
        shell(
            "groups",
            "id; touch /data/file; stat -c 'file %g %u' /data/file; stat -c 'dir %g %a' /data; stat -c 'mem %g' /mem",
            {
                "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "mem", "mountPath": "/mem"}],
                "securityContext": {"runAsUser": 1000, "runAsGroup": 3000},
            },
            securityContext={"fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch", "supplementalGroups": [7]},
            volumes=[{"name": "data", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}}],
        )
    )
    agent.wait_ready("groups")
    agent.wait(lambda: "mem 2000" in said(agent, "groups"), "the groups to be told")
    text = said(agent, "groups")
    assert "file 2000 1000" in text
    assert "dir 2000 2777" in text
    groups = text.partition("groups=")[2].splitlines()[0]
    assert {"3000", "2000", "7"} <= set(groups.replace(",", " ").split())
    (status,) = agent.pod("groups")["status"]["containerStatuses"]
    assert [one["mountPath"] for one in status["volumeMounts"]] == ["/data", "/mem"]
    if agent.containerd.binaries.version >= (2, 0):  # an older one does not tell
        user = status["user"]["linux"]
        assert (user["uid"], user["gid"]) == (1000, 3000)
        assert {2000, 7} <= set(user["supplementalGroups"])


def test_unsafe_sysctls_are_forbidden_unless_the_node_allows_them(node: LabNode) -> None:
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    node.start_agent()
    context = {"sysctls": [{"name": "kernel.msgmax", "value": "65536"}]}
    node.put_pod(shell("sys", "cat /proc/sys/kernel/msgmax", securityContext=context))
    node.wait(
        lambda: node.pod("sys").get("status", {}).get("reason") == "SysctlForbidden", "the sysctl to be forbidden"
    )
    node.stop_agent()
    node.start_agent("--allowed-unsafe-sysctls=kernel.msg*")
    node.wait_ready("sys")
    node.wait(lambda: "65536" in said(node, "sys"), "the sysctl to be set")


def test_strict_groups_where_the_runtime_has_them(agent: LabNode) -> None:
    agent.put_pod(
        shell("strict", "id", securityContext={"supplementalGroupsPolicy": "Strict", "supplementalGroups": [7]})
    )
    status = agent.wait(lambda: agent.agent_api("/v1/status")["runtime"].get("version"), "the runtime to be known")
    version = str(status).lstrip("v")
    if version.startswith("1."):
        agent.wait(
            lambda: agent.pod("strict").get("status", {}).get("reason") == "SupplementalGroupsPolicyNotSupported",
            "the pod to be refused",
        )
    else:
        agent.wait_ready("strict")


@ONE_VERSION
def test_a_profile_that_was_good_and_goes_bad_stops_nothing_and_starts_nothing(agent: LabNode) -> None:
    home = agent.root_dir / "seccomp"
    home.mkdir()
    (home / "p.json").write_text(json.dumps(NO_MKDIR))
    context = {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}
    agent.put_pod(shell("web", "true", {"securityContext": context}))
    agent.wait_ready("web")
    first = agent.container_id("web")
    (home / "p.json").write_text("")
    agent.kill_agent()
    agent.start_agent()
    agent.wait_ready("web")
    assert agent.container_id("web") == first
    agent.kill_container(first)
    assert agent.agent is not None
    log = agent.base / "agent.log"
    agent.wait(lambda: "CreateContainerConfigError: cannot load seccomp profile" in log.read_text(), "the refusal")
    agent.wait(lambda: waiting(agent, "web"), "the container to wait")
    assert agent.container_id("web") == ""


def test_a_pod_with_users_of_its_own_where_the_runtime_has_them(agent: LabNode) -> None:
    """Inside they are 0 and up, outside ids that nobody else has; the volume is theirs, and its files are root's."""
    mounts = {"volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "memory", "mountPath": "/memory"}]}
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
    able = agent.containerd.binaries.users_runc is not None
    with_class = {"runtimeClassName": USERS_HANDLER} if able else {}
    agent.put_pod(runtime_class(USERS_HANDLER, USERS_HANDLER), "users-class.yaml")
    for name in ("users", "others"):
        script = "cat /proc/self/uid_map; touch /data/x /memory/x && stat -c 'owner %u' /data/x /memory/x /etc/passwd"
        agent.put_pod(shell(name, script, mounts, hostUsers=False, volumes=volumes, **with_class))
    if not able:
        agent.wait(
            lambda: agent.pod("users").get("status", {}).get("reason") == "UserNamespacesNotSupported",
            "the pod to be refused",
        )
        return
    agent.wait_ready("users", "others")
    for name in ("users", "others"):
        agent.wait(lambda name=name: said(agent, name).count("owner 0") == 3, "what they see")  # type: ignore[misc]
    maps = [said(agent, name).split()[:3] for name in ("users", "others")]
    assert sorted(maps) == [["0", "131072", "65536"], ["0", "65536", "65536"]]
    for name, seen in zip(("users", "others"), maps, strict=True):
        pid = agent.containerd.tasks()[agent.container_id(name)]
        assert agent.machine.run(["stat", "-c", "%u", f"/proc/{pid}"]).stdout.strip() == seen[1]
        made = agent.root_dir / "pods" / uid_of(agent, name) / "volumes/kubernetes.io~empty-dir/data/x"
        assert made.stat().st_uid == 0
    agent.kill_agent()
    agent.start_agent()
    first = agent.container_id("users") or agent.wait(lambda: agent.container_id("users"), "the pod to be adopted")
    agent.kill_container(str(first))
    agent.wait(lambda: agent.container_id("users") not in ("", first), "another container")
    agent.wait(lambda: said(agent, "users").split()[:3] in maps, "what it sees")


def test_a_runtime_class_gives_handler_and_overhead(agent: LabNode) -> None:
    pod = shell("classy", "true", runtimeClassName="plain")
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    agent.put_pod(pod)

    def why() -> str:
        entry = agent.pods().get(f"classy-{agent.name}", {})
        return " ".join(str(one["message"]) for one in entry.get("waiting", []))

    agent.wait(lambda: 'runtimeclass.node.k8s.io "plain" not found' in why(), "the class to be missed")
    agent.put_pod(runtime_class("plain", "runc", overhead={"podFixed": {"cpu": "150m"}}), "plain.yaml")
    agent.wait_ready("classy")
    assert read(agent, "cpu", f"burstable/pod{uid_of(agent, 'classy')}", "cpu.shares") == 256
    agent.put_pod(shell("odd", "true", runtimeClassName="odd"))
    agent.put_pod(runtime_class("odd", "no-such"), "odd-class.yaml")
    entry = f"odd-{agent.name}"
    agent.wait(
        lambda: "no-such" in " ".join(str(one["message"]) for one in agent.pods().get(entry, {}).get("waiting", [])),
        "the runtime to refuse the handler",
    )


@pytest.mark.parametrize(
    ("user", "uid", "refusal"),
    [
        ("1000", "1000", ""),
        ("web", "1000", "image has non-numeric user (web), cannot verify user is non-root"),
        ("0", "0", "image will run as root"),
        ("", "0", "image will run as root"),
    ],
)
def test_cve_2019_11245_the_images_user_holds_each_time(
    agent: LabNode, tmp_path: Path, user: str, uid: str, refusal: str
) -> None:
    image = f"longshore.test/user-{user or 'none'}:1"
    archive = tmp_path / "image.tar"
    archive.write_bytes(web_archive(image, user=user))
    import_archives(agent.containerd, [archive])
    one = {"image": image}
    agent.put_pod(shell("plain", "echo uid $(id -u)", one))
    agent.put_pod(shell("safe", "echo uid $(id -u)", {**one, "securityContext": {"runAsNonRoot": True}}))
    agent.wait_ready("plain")
    agent.wait(lambda: f"uid {uid}" in said(agent, "plain"), "the user to be told")
    if refusal:

        def refused() -> bool:
            found = waiting(agent, "safe")
            return found.get("reason") == "CreateContainerConfigError" and refusal in found.get("message", "")

        agent.wait(refused, "the pod to be refused")
        assert agent.container_id("safe") == ""
        return
    agent.wait_ready("safe")
    agent.kill_agent()
    agent.start_agent()
    first = str(agent.wait(lambda: agent.container_id("plain"), "the pod to be adopted"))
    agent.kill_container(first)
    agent.wait(lambda: agent.container_id("plain") not in ("", first), "another container")
    agent.wait(lambda: f"uid {uid}" in said(agent, "plain"), "the user to be the same")
