"""The files that the roles write, rendered by Ansible and read by those who will read them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agent.config import load_config as load_agent_config
from proxy.config import load_config as load_proxy_config
from tests.ansible.ansible_runs import ANSIBLE, ROLES, ROOT, run_playbook


def render(role: str, template: str, home: Path, **variables: Any) -> Path:
    """The template with the defaults of all roles, as within site.yml."""
    target = home / template.removesuffix(".j2")
    found = {"containerd": {"version": None}, "packages": {}, "architecture": "amd64", "codename": "bookworm"}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [str(ANSIBLE / "roles" / one / "defaults" / "main.yml") for one in ROLES]
        + [str(ANSIBLE / "roles" / role / "vars" / "main.yml")] * (role != "prereq"),
        "tasks": [
            {
                "ansible.builtin.template": {
                    "src": str(ANSIBLE / "roles" / role / "templates" / template),
                    "dest": str(target),
                    "mode": "0600",
                }
            }
        ],
    }
    playbook = home / "render.json"
    playbook.write_text(json.dumps([play]))
    extra = json.dumps({"longshore_found": found, **variables})
    done = run_playbook(playbook, home, "-e", extra)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_agent_reads_its_configuration(tmp_path: Path) -> None:
    own = {"staticPodPath": str(tmp_path), "maxPods": 17}
    file = render(
        "agent", "agent.yaml.j2", tmp_path,
        longshore_agent_config=own, longshore_swap="allow", longshore_cgroup_v1_allowed=True,
        longshore_agent_healthz_port=0, longshore_offline=True,
    )  # fmt: skip
    config = load_agent_config(["--config", str(file)], host_name=lambda: "node1")
    assert (config.static_pod_path, config.max_pods, config.healthz_port) == (tmp_path, 17, 0)
    assert (config.fail_swap_on, config.fail_cgroup_v1, config.cgroup_driver) == (False, False, "systemd")
    assert config.cluster.offline
    assert config.runtime_endpoint == "unix:///run/containerd/containerd.sock"


def test_agent_refuses_swap_and_cgroup_v1_by_default(tmp_path: Path) -> None:
    file = render("agent", "agent.yaml.j2", tmp_path, longshore_agent_config={"staticPodPath": str(tmp_path)})
    assert "offline" not in file.read_text(), "a kubelet refuses the field"
    config = load_agent_config(["--config", str(file)], host_name=lambda: "node1")
    assert (config.fail_swap_on, config.fail_cgroup_v1, config.healthz_port) == (True, True, 10248)
    assert not config.cluster.offline


def test_proxy_reads_its_configuration(tmp_path: Path) -> None:
    more = {"conntrack": {"min": 1000}, "nodePortAddresses": ["primary"]}
    file = render(
        "proxy", "proxy.yaml.j2", tmp_path,
        longshore_proxy_config=more, longshore_proxy_healthz_port=20256, longshore_offline=True,
    )  # fmt: skip
    config = load_proxy_config(["--config", str(file)])
    assert config.cluster_cidrs == ("10.244.0.0/16",)
    assert (config.healthz_bind, config.metrics_bind) == (("0.0.0.0", 20256), ("127.0.0.1", 10249))
    assert (config.conntrack.min_entries, config.node_port_addresses) == (1000, ("primary",))
    unit = (ROOT / "systemd" / "longshore-proxy.service").read_text()
    assert config.api.offline_dir is not None
    assert f"\nStateDirectory={config.api.offline_dir.relative_to('/var/lib')}\n" in unit
    assert load_proxy_config(["--config", str(render("proxy", "proxy.yaml.j2", tmp_path))]).api.offline_dir is None


@pytest.mark.parametrize("version", ["1.6.20", "1.7.24", "2.0.5", "2.2.1"])
def test_containerd_uses_the_systemd_driver_and_our_pause_image(version: str, tmp_path: Path) -> None:
    file = render(
        "containerd", "config.toml.j2", tmp_path, containerd_version=version, longshore_pause_image="here/pause:1"
    )
    config = tomllib.loads(file.read_text())
    plugins = config["plugins"]
    if version.startswith("1."):
        cri = plugins["io.containerd.grpc.v1.cri"]
        assert (config["version"], cri["sandbox_image"]) == (2, "here/pause:1")
        assert cri["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": "/etc/cni/net.d"}
    else:
        cri = plugins["io.containerd.cri.v1.runtime"]
        pinned = plugins["io.containerd.cri.v1.images"]["pinned_images"]
        assert (config["version"], pinned) == (3, {"sandbox": "here/pause:1"})
        assert cri["cni"].get("bin_dir", cri["cni"].get("bin_dirs")) in ("/usr/lib/cni", ["/usr/lib/cni"])
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}


def test_containerd_reads_its_configuration(tmp_path: Path) -> None:
    if shutil.which("containerd") is None:
        pytest.skip("containerd is not installed")
    version = subprocess.run(["containerd", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    file = render("containerd", "config.toml.j2", tmp_path, containerd_version=version.split("~")[0].lstrip("v"))
    done = subprocess.run(
        ["containerd", "--config", str(file), "config", "dump"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "SystemdCgroup = true" in done.stdout


def test_pod_network_is_what_containerd_takes(tmp_path: Path) -> None:
    file = render("containerd", "10-longshore.conflist.j2", tmp_path, longshore_pod_subnet="10.1.2.0/24")
    network = json.loads(file.read_text())
    bridge, portmap = network["plugins"]
    assert (bridge["type"], bridge["bridge"], portmap["type"]) == ("bridge", "longshore0", "portmap")
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.1.2.0/24"}]]


def test_kernel_files_name_what_was_asked_for(tmp_path: Path) -> None:
    modules = render("prereq", "modules.conf.j2", tmp_path, longshore_kernel_modules=["overlay", "ip_vs"])
    sysctls = render("prereq", "sysctl.conf.j2", tmp_path, longshore_sysctls={"net.ipv4.ip_forward": "1"})
    assert modules.read_text().splitlines()[1:] == ["overlay", "ip_vs"]
    assert sysctls.read_text().splitlines()[1:] == ["net.ipv4.ip_forward = 1"]
