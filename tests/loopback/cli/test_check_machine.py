"""What `longshore check` says of the machine and of systemd: the rules on facts, and real ports, disks and programs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cli.preflight import Finding, Places, host_findings
from cli.preflight_machine import (
    Machine,
    clock_finding,
    disk_finding,
    disk_findings,
    kernel_finding,
    machine_findings,
    wanted_ports,
)
from cli.preflight_runtime import driver_finding, version_finding
from cli.preflight_systemd import (
    grace_period_s,
    inhibit_finding,
    parse_inhibit_delay,
    systemd_findings,
    unit_findings,
)
from cri_client.types import (
    CgroupDriver,
    LinuxRuntimeConfiguration,
    RuntimeConfigResponse,
    StatusResponse,
    VersionResponse,
)
from tests.unit.cli.conftest import Node

AGENT = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
PROXY = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "agent.yaml").write_text(AGENT)
    (tmp_path / "proxy.yaml").write_text(PROXY)
    (tmp_path / "filesystems").write_text("nodev\tproc\n\text4\nnodev\toverlay\n")
    return Machine(
        agent_file=tmp_path / "agent.yaml", proxy_file=tmp_path / "proxy.yaml",
        agent_config={}, proxy_config={}, disks=(tmp_path,), proc=tmp_path,
    )  # fmt: skip


def found(machine: Machine, name: str) -> list[Finding]:
    return [one for one in machine_findings(machine) if one.name == name]


def test_a_machine_that_is_well(machine: Machine) -> None:
    assert [one.ok for one in found(machine, "configuration")] == [True, True]
    assert found(machine, "overlay")[0].ok
    assert found(machine, "clock")[0].ok


def test_what_is_wrong_in_a_configuration_is_found_before_the_daemon_does(machine: Machine) -> None:
    machine.agent_file.write_text(f"{AGENT}maxPod: 5\n")
    machine.proxy_file.unlink()
    agent, proxy = found(machine, "configuration")
    assert (agent.ok, proxy.ok) == (False, None)
    assert f"{machine.agent_file}:3: maxPod: unknown field" in agent.detail


def test_overlay_is_missing(machine: Machine) -> None:
    (machine.proc / "filesystems").write_text("nodev\tfuse-overlayfs\n")
    (finding,) = found(machine, "overlay")
    assert (finding.ok, "modprobe overlay" in finding.fix) == (False, True)


@pytest.mark.parametrize(
    ("text", "ok"),
    [("6.1.0-18-amd64", True), ("5.8.0", True), ("5.4.0-150-generic", None), ("4.19.0", None), ("4.9.0-13", False)],
)
def test_the_kernel(text: str, ok: bool | None) -> None:
    assert kernel_finding(text).ok is ok


def room(free: float, *, files: float = 0.5, size_bytes: int = 100 << 30, flags: int = 0) -> os.statvfs_result:
    blocks = size_bytes // 4096
    facts = SimpleNamespace(
        f_flag=flags, f_frsize=4096, f_blocks=blocks, f_bavail=int(blocks * free),
        f_files=1000, f_favail=int(1000 * files),
    )  # fmt: skip
    return cast(os.statvfs_result, facts)


@pytest.mark.parametrize(
    ("facts", "ok", "words"),
    [
        (room(0.4), True, "40% of its bytes"),
        (room(0.05), None, "nearly full"),
        (room(0.5, size_bytes=100 << 20), False, "full"),
        (room(0.5, files=0.05), None, "5% of its files"),
        (room(0.5, files=0.0), False, "0% of its files"),
        (room(0.5, flags=os.ST_RDONLY), False, "read-only"),
    ],
)
def test_a_disk(facts: os.statvfs_result, ok: bool | None, words: str) -> None:
    finding = disk_finding(Path("/var/lib"), facts)
    assert finding.ok is ok
    assert words in finding.detail
    assert bool(finding.fix) is (ok is not True)


def test_run_is_small_where_memory_is() -> None:
    assert disk_finding(Path("/run"), room(0.9, size_bytes=97 << 20)).ok
    assert disk_finding(Path("/run"), room(0.1, size_bytes=97 << 20)).ok is False


def test_a_disk_that_several_directories_are_on_is_named_once(tmp_path: Path) -> None:
    (finding,) = disk_findings((tmp_path / "not/yet/there", tmp_path))
    assert finding.detail.startswith(f"{tmp_path}:")


def test_a_read_only_disk(tmp_path: Path, root: None) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "disk", tmp_path], check=True)
    try:
        (finding,) = disk_findings((tmp_path / "longshore",))
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert (finding.ok, "read-only" in finding.detail) == (False, True)


def test_the_clock() -> None:
    built = 1_800_000_000.0
    assert clock_finding(built + 1, built).ok
    assert clock_finding(built - 3600, built).ok, "a build machine elsewhere may be ahead a little"
    finding = clock_finding(built - 2 * 86400, built)
    assert (finding.ok, "before this program was built" in finding.detail) == (False, True)


def test_the_ports_are_the_configured_ones() -> None:
    assert set(wanted_ports(None, None)) == {10248, 10256, 10249}
    assert set(wanted_ports(None, {"healthzBindAddress": "127.0.0.1:\u00b2"})) == {10248, 10256, 10249}, "no digit"
    agent, proxy = {"healthzPort": 0}, {"healthzBindAddress": "127.0.0.1:1", "metricsBindAddress": "[::1]:2"}
    assert wanted_ports(agent, proxy) == {
        1: ("longshore-proxy", "healthzBindAddress"),
        2: ("longshore-proxy", "metricsBindAddress"),
    }


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_port_that_somebody_has(machine: Machine, taken: int) -> None:
    busy = Machine(**{**vars(machine), "agent_config": {"healthzPort": taken}})
    (finding,) = [one for one in found(busy, "ports") if str(taken) in one.detail]
    assert finding.ok is False
    assert f"process {os.getpid()}" in finding.detail
    assert "healthzPort" in finding.fix


DAEMON = """import socket, time
listening = socket.create_server(('127.0.0.1', 0))
print(listening.getsockname()[1], flush=True)
time.sleep(99)
"""


def test_a_port_that_our_own_daemon_has(machine: Machine, tmp_path: Path) -> None:
    program = tmp_path / "bin/longshore-agent"
    program.parent.mkdir()
    program.write_text(DAEMON)
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        port = int(ours.stdout.readline())
        busy = Machine(**{**vars(machine), "agent_config": {"healthzPort": port}})
        findings = found(busy, "ports")
        ours.kill()
    assert not any(one.ok is False and str(port) in one.detail for one in findings)


AUDIT = """The following packages have been unpacked but not yet configured.
They must be configured using dpkg --configure or the configure
menu option in dselect for them to work:
 {name}            A package
"""


@pytest.mark.parametrize(("name", "ok"), [("longshore", False), ("containerd", False), ("nethack", None)])
def test_a_half_installed_package(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ok: bool | None
) -> None:
    dpkg = tmp_path / "dpkg"
    dpkg.write_text(f"#!/bin/sh\ncat <<END\n{AUDIT.format(name=name)}END\n")
    dpkg.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (finding,) = found(machine, "packages")
    assert (finding.ok, "dpkg --configure -a" in finding.fix) == (ok, True)


def test_swap_and_cgroup_v1_as_the_agent_is_configured(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n/dev/sda2 partition 9 0 -2\n")
    (tmp_path / "cgroups").write_text("".join(f"{name}\t1\t1\t1\n" for name in ("cpu", "memory", "pids")))
    for name in ("cpu", "memory", "pids"):
        (tmp_path / name).mkdir()

    def results(config: dict[str, Any] | None) -> list[bool | None]:
        places = Places(proc=tmp_path, cgroup=tmp_path, agent_config=config)
        return [one.ok for one in host_findings(places) if one.name in ("swap", "cgroups")]

    assert results(None) == [None, None]
    assert results({}) == [False, False]
    assert results({"failSwapOn": False, "failCgroupV1": False}) == [True, True]


def unit(name: str, load: str = "loaded", state: str = "active", file: str = "enabled") -> str:
    return f"Id={name}\nLoadState={load}\nActiveState={state}\nUnitFileState={file}"


def test_the_units() -> None:
    well = "\n\n".join((unit("longshore.target"), unit("longshore-agent.service")))
    assert [one.ok for one in unit_findings(well)] == [True, True]
    (absent,) = unit_findings(unit("longshore.target", load="not-found"))
    assert absent.ok is None
    off = list(unit_findings(unit("longshore.target", file="disabled", state="inactive")))
    assert [(one.ok, "systemctl enable --now longshore.target" in one.fix) for one in off] == [(False, True)] * 2
    crashed = "\n\n".join((unit("longshore.target"), unit("longshore-agent.service", state="failed")))
    (finding,) = [one for one in unit_findings(crashed) if not one.ok]
    assert "journalctl -u longshore-agent.service" in finding.fix
    masked = "\n\n".join((unit("longshore.target"), unit("longshore-proxy.service", load="masked")))
    assert any("unmask" in one.fix for one in unit_findings(masked))
    (nothing,) = unit_findings("")
    assert nothing.ok is None


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ({}, 0.0),
        ({"shutdownGracePeriod": "1m30s"}, 90.0),
        ({"shutdownGracePeriod": "soon"}, 0.0),
        ({"shutdownGracePeriod": 3}, 0.0),
        ({"shutdownGracePeriodByPodPriority": [
            {"priority": 0, "shutdownGracePeriodSeconds": 20}, {"priority": 9, "shutdownGracePeriodSeconds": 5},
        ]}, 25.0),
    ],
)  # fmt: skip
def test_how_long_the_agent_wants(config: dict[str, object], seconds: float) -> None:
    assert grace_period_s(config) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 5.0),
        ("[Login]\n#InhibitDelayMaxSec=7\n", 5.0),
        ("InhibitDelayMaxSec=30\n# more\nInhibitDelayMaxSec=1min 30s\n", 90.0),
        ("InhibitDelayMaxSec=30\nInhibitDelayMaxSec=\n", 5.0),
        ("InhibitDelayMaxSec=infinity", float("inf")),
        ("InhibitDelayMaxSec=1500ms", 1.5),
        ("InhibitDelayMaxSec=a while", None),
    ],
)
def test_how_long_logind_waits(text: str, seconds: float | None) -> None:
    assert parse_inhibit_delay(text) == seconds


def test_logind_waits_long_enough_or_not() -> None:
    assert inhibit_finding(30, 30).ok
    short = inhibit_finding(30.5, 5)
    assert (short.ok, "InhibitDelayMaxSec=31" in short.fix) == (False, True)
    assert inhibit_finding(30, None).ok is None


def test_systemd_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"systemctl": unit("longshore.target"), "busctl": "t 5000000", "timedatectl": "no"}
    for name, answer in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<END\n{answer}\nEND\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    findings = {one.name: one for one in systemd_findings({"shutdownGracePeriod": "20s"})}
    assert [findings[name].ok for name in ("units", "shutdown", "time")] == [True, False, None]
    assert "logind waits 5 s" in findings["shutdown"].detail
    assert "shutdown" not in {one.name for one in systemd_findings({})}


def reported(systemd: object) -> StatusResponse:
    runtimes = {"runc": {"options": {"SystemdCgroup": systemd}}}
    return StatusResponse(
        info={"config": json.dumps({"containerd": {"defaultRuntimeName": "runc", "runtimes": runtimes}})}
    )


def test_the_cgroup_driver() -> None:
    said = RuntimeConfigResponse(LinuxRuntimeConfiguration(CgroupDriver.SYSTEMD))
    assert driver_finding("cgroupfs", said, StatusResponse()).ok, "the agent follows the runtime"
    assert driver_finding("systemd", None, reported(True)).ok
    assert driver_finding("cgroupfs", None, reported(False)).ok
    differ = driver_finding("cgroupfs", None, reported(True))
    assert (differ.ok, "cgroupDriver: systemd" in differ.fix) == (False, True)
    assert driver_finding("cgroupfs", None, StatusResponse(info={"config": "{}"})).ok is None


@pytest.mark.parametrize(
    ("name", "version", "spoken", "ok"),
    [
        ("containerd", "1.6.20~ds1", "v1", True),
        ("containerd", "v2.1.4", "v1", True),
        ("containerd", "1.5.9", "v1", False),
        ("containerd", "1.6.0", "v1alpha2", False),
        ("cri-o", "1.30", "v1", True),
    ],
)
def test_a_runtime_that_is_too_old(name: str, version: str, spoken: str, ok: bool) -> None:
    answer = VersionResponse(runtime_name=name, runtime_version=version, runtime_api_version=spoken)
    assert version_finding(answer).ok is ok


def test_the_command_reads_the_configuration(node: Node) -> None:
    (node.base / "agent.yaml").write_text(f"{AGENT}containerRuntimeEndpoint: unix:///nowhere/c.sock\nbad: 1\n")
    (node.base / "proxy.yaml").write_text("{")
    result = node.run("check", f"--config-dir={node.base}", "-o", "json")
    assert result.exit_code == 1
    failed = [one["detail"] for one in json.loads(result.stdout) if one["ok"] is False]
    assert any("bad: unknown field" in one for one in failed)
    assert any(f"{node.base}/proxy.yaml" in one for one in failed)
    assert any("/nowhere/c.sock" in one for one in failed)
