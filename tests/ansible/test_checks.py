"""What prereq finds on a machine, and what it says where that will not do: what is wrong and the remedy."""

from __future__ import annotations

import copy
import json
import re
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.ansible_runs import ANSIBLE, failures, run_playbook

ROLE = ANSIBLE / "roles" / "prereq"
LOOK = ROLE / "files" / "look.py"
FIT: dict[str, Any] = {
    "uid": 0,
    "distribution": "debian",
    "release": "12",
    "system": "Debian 12",
    "systemd": True,
    "kernel": "6.1.0-31-amd64",
    "cgroup": "v2",
    "modules": {"overlay": "builtin", "xt_nat": "loaded", "xt_mark": "loadable"},
    "swaps": [],
    "directories": {
        "/etc": {"free_mib": 9000, "free_inodes": 9000, "read_only": False},
        "/var/lib/longshore": {"free_mib": 9000, "free_inodes": None, "read_only": False},
    },
    "listeners": [{"port": 10248, "process": "longshore-agent", "pid": 7, "ours": True}],
    "packages": {},
}
VAR = "/var/lib/longshore"
# Name -> (what differs from FIT, variables, what the message has to say).
UNFIT: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "user": ({"uid": 1000}, {}, ("not root", "sudo")),
    "distribution": ({"distribution": "fedora", "system": "Fedora 41"}, {}, ("Fedora 41", "longshore_distributions")),
    "release": ({"release": "11", "system": "Debian 11"}, {}, ("Debian 11", "reinstall")),
    "init": ({"systemd": False}, {}, ("not booted by systemd",)),
    "kernel": ({"kernel": "4.19.0-27-amd64"}, {}, ("4.19.0-27-amd64", "older than 5.8", "reboot")),
    "cgroup": ({"cgroup": "v1"}, {}, ("cgroup v1", "systemd.unified_cgroup_hierarchy=1")),
    "module": ({"modules": {"overlay": "builtin", "xt_nat": "missing"}}, {}, ("module xt_nat", "linux-modules-extra")),
    "clock": ({}, {"longshore_clock_behind_s": 86400}, ("86400 seconds behind", "timedatectl")),
    "clock-ahead": ({}, {"longshore_clock_behind_s": -301}, ("301 seconds ahead of",)),
    "read-only": (
        {"directories": {VAR: {"free_mib": 9000, "free_inodes": 9, "read_only": True}}}, {},
        (f"{VAR} lies on a file system that is mounted read-only", "remount"),
    ),
    "full": (
        {"directories": {VAR: {"free_mib": 3, "free_inodes": 9, "read_only": False}}}, {},
        ("less than 1024 MiB", VAR, "apt-get clean"),
    ),
    "inodes": (
        {"directories": {VAR: {"free_mib": 9000, "free_inodes": 0, "read_only": False}}}, {}, ("no inodes", VAR)
    ),
    "port": (
        {"listeners": [{"port": 10256, "process": "kube-proxy", "pid": 42, "ours": False}]}, {},
        ("port 10256 is in use by kube-proxy (pid 42)", "longshore_proxy_healthz_port"),
    ),
    "swap": ({"swaps": ["/dev/sda2"]}, {}, ("/dev/sda2", "swapoff -a", "/etc/fstab", "longshore_swap")),
}  # fmt: skip
# The same where a variable says that it will do.
ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fit": ({}, {}),
    "installed-and-nearly-full": (
        {
            "packages": {"longshore": "1"},
            "directories": {VAR: {"free_mib": 100, "free_inodes": 9, "read_only": False}},
        },
        {},
    ),
    "swap-allowed": ({"swaps": ["/dev/sda2"]}, {"longshore_swap": "allow"}),
    "swap-disabled": ({"swaps": ["/dev/sda2"]}, {"longshore_swap": "disable"}),
    "cgroup-v1-allowed": ({"cgroup": "v1"}, {"longshore_cgroup_v1_allowed": True}),
    "clock-tolerated": ({"time": 0}, {"longshore_clock_behind_s": 290}),
}  # fmt: skip


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Host -> message, of one run in which each host is a case."""
    home = tmp_path_factory.mktemp("checks")
    cases = {name: (differs, variables) for name, (differs, variables, _) in UNFIT.items()} | ALLOWED
    hosts = {
        name: {"longshore_found": copy.deepcopy(FIT) | differs, "longshore_clock_behind_s": 0, **variables}
        for name, (differs, variables) in cases.items()
    }
    play = {
        "hosts": "longshore_nodes",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.include_role": {"name": str(ROLE), "tasks_from": "check"}},
            {"ansible.builtin.debug": {"msg": "fit"}},
        ],
    }
    playbook = home / "check.json"
    playbook.write_text(json.dumps([play]))
    done = run_playbook(playbook, home, "--forks", "20", inventory={"longshore_nodes": {"hosts": hosts}})
    passed = {name: "fit" for name in hosts if f"ok: [{name}] => {{" in done.stdout}
    found = failures(done) | passed
    assert set(found) == set(hosts), done.stdout + done.stderr
    return found


@pytest.mark.parametrize("name", UNFIT)
def test_says_what_is_wrong_and_what_to_do(name: str, said: dict[str, str]) -> None:
    assert all(words in said[name] for words in UNFIT[name][2]), said[name]
    assert name in said[name]  # the host's name


@pytest.mark.parametrize("name", ALLOWED)
def test_lets_pass_what_will_do(name: str, said: dict[str, str]) -> None:
    assert said[name] == "fit"


@pytest.mark.parametrize(("version", "message"), [("1.5.9", "version 1.5.9 is older than 1.6.0"), ("1.6.0", None)])
def test_an_old_containerd_is_not_used(version: str, message: str | None, tmp_path: Path) -> None:
    packages = dict.fromkeys(("containernetworking-plugins", "iptables"), "1")
    found = {"containerd": {"version": version, "config": "ours"}, "packages": packages, "iptables": "nft"}
    play = {
        "hosts": "here",
        "gather_facts": False,
        "vars": {"longshore_found": found, "longshore_containerd_manage": False, "longshore_cni_manage": False},
        "tasks": [{"ansible.builtin.include_role": {"name": str(ANSIBLE / "roles" / "containerd")}}],
    }
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps([play]))
    inventory = {"all": {"hosts": {"here": {"ansible_connection": "local"}}}}
    done = run_playbook(playbook, tmp_path, inventory=inventory)
    said = failures(done).get("here", "")
    assert (message or "") in said
    assert (done.returncode == 0) == (message is None), done.stdout
    if message:
        assert "install a newer one" in said


def look(**questions: object) -> dict[str, Any]:
    with LOOK.open() as script:
        argv = [sys.executable, "-", json.dumps(questions)]
        done = subprocess.run(argv, stdin=script, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_looks_at_this_machine(tmp_path: Path) -> None:
    questions = {
        "modules": ["no_such_module"], "sysctls": ["kernel.ostype", "no.such"],
        "directories": [str(tmp_path / "not" / "yet")], "paths": [str(tmp_path), "/no/such"],
    }  # fmt: skip
    found = look(**questions)
    assert found["modules"] == {"no_such_module": "missing"}
    assert found["sysctls"] == {"kernel.ostype": "Linux", "no.such": None}
    assert found["directories"][questions["directories"][0]]["read_only"] is False
    assert found["paths"] == {str(tmp_path): True, "/no/such": False}
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    assert found["distribution"] == release["ID"].strip('"')


def test_names_who_listens_on_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = look(ports=[port])["listeners"]
    assert (found["port"], found["pid"] > 0, found["ours"]) == (port, True, False)


@pytest.mark.parametrize(
    ("status", "problem", "again"),
    [
        ("install ok installed", None, False),
        ("install ok half-configured", "longshore is half-configured", False),
        ("install reinstreq half-configured", "longshore is half-configured and has to be installed again", True),
        ("install reinstreq half-installed", "longshore is half-installed and has to be installed again", True),
    ],
)
def test_says_what_a_power_cut_left_of_a_package(
    status: str, problem: str | None, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By dpkg's own record; repair.yml unpacks the kept package where dpkg cannot go on from what is there."""
    entry = f"Package: longshore\nStatus: {status}\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    (tmp_path / "status").write_text(entry)
    (tmp_path / "info").mkdir()
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    problems = runpy.run_path(str(LOOK))["dpkg_problems"]()
    assert problems == ([] if problem is None else [problem])
    tasks = yaml.safe_load((ROLE / "tasks" / "repair.yml").read_text())
    (condition,) = [one["when"] for one in tasks if "prereq_kept_package" in one.get("vars", {})]
    pattern = condition.partition("'match', '")[2].partition("'")[0]
    assert any(re.match(pattern, one) for one in problems) == again


def test_every_role_file_is_named_in_a_task() -> None:
    for role in (ANSIBLE / "roles").iterdir():
        tasks = "".join(path.read_text() for path in (role / "tasks").glob("*.yml"))
        for file in [*(role / "files").glob("*"), *(role / "templates").glob("*")]:
            assert file.name in tasks, f"{file} is used by no task"


def test_wait_knows_ready_pods_and_parts() -> None:
    wait = runpy.run_path(str(ANSIBLE / "roles" / "agent" / "files" / "wait_ready.py"))
    pod = {"metadata": {"namespace": "default", "name": "web"}}
    ready = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"containerID": "containerd://a"}],
    }
    waiting = {"conditions": [{"type": "Ready", "status": "False"}]}
    answer = {
        "pods": [
            {"pod": {**pod, "status": ready}},
            {"pod": {"metadata": {"namespace": "x", "name": "y"}, "status": waiting}},
        ]
    }
    assert wait["ready_pods"](answer) == {"default/web": ["containerd://a"]}
    status = {"agent": {"ready": True, "runtime": {"connected": False}}, "proxy": None, "problems": {"proxy": "gone"}}
    assert wait["unready_parts"](status, ["agent"]) == []
    assert wait["unready_parts"](status, ["agent", "runtime", "proxy"]) == ["runtime: not ready", "proxy: gone"]


def test_specifications_are_known_to_ansible(tmp_path: Path) -> None:
    """A value that the argument specification refuses stops the run before anything else."""
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())
    assert spec["argument_specs"]["main"]["options"]["longshore_swap"]["choices"] == ["refuse", "disable", "allow"]
    hosts = {"here": {"ansible_connection": "local", "ansible_become": False, "longshore_swap": "perhaps"}}
    inventory = {"longshore_nodes": {"hosts": hosts}}
    done = run_playbook(ANSIBLE / "playbooks" / "site.yml", tmp_path, inventory=inventory)
    assert done.returncode != 0
    assert "value of longshore_swap must be one of: refuse, disable, allow" in done.stdout
