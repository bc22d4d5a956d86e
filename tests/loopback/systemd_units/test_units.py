"""The units as systemd reads them, and the sample configurations as the daemons read them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.config import load_config as load_agent_config
from proxy.config import load_config as load_proxy_config

UNITS = Path(__file__).parents[3] / "systemd"
NAMES = ("longshore-agent.service", "longshore-proxy.service")


class _Unit(configparser.RawConfigParser):
    """A unit file; a key that comes several times keeps all values, a line each."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def read(name: str) -> _Unit:
    text = (UNITS / name).read_text()
    unit = _Unit(strict=False, interpolation=None, comment_prefixes=("#",), inline_comment_prefixes=None)
    unit.read_string(text)
    return unit


@pytest.mark.parametrize("name", [*NAMES, "longshore-shutdown.service"])
def test_systemd_finds_nothing_to_say(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = (UNITS / name).read_text()
    program = read(name)["Service"]["ExecStart"].split()[0]
    here = tmp_path / Path(program).name
    here.write_text("#!/bin/sh\n")
    here.chmod(0o755)
    copy = tmp_path / name
    copy.write_text(text.replace(program, str(here)).replace("/usr/bin/longshore ", f"{here} "))
    # Alone, so that units it only names (containerd, firewalls) need not be installed here.
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(copy)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["longshore.target", "longshore.slice"])
def test_systemd_finds_nothing_to_say_of_target_and_slice(name: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(UNITS / name)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_unit_with_a_mistake_would_be_noticed(name: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / name
    text = (UNITS / name).read_text().replace("WatchdogSec=60s", "WatchdogSec=soon")
    copy.write_text(text)
    line = text.splitlines().index("WatchdogSec=soon") + 1
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", str(copy)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    said = {
        f"{copy}:{line}: Failed to parse sec value, ignoring: soon",  # systemd 252
        f"{copy}:{line}: Failed to parse WatchdogSec=soon, ignoring: Invalid argument",  # systemd 257
    }
    assert len(said.intersection(done.stderr.splitlines())) == 1, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_what_the_daemons_rely_on(name: str) -> None:
    service = read(name)["Service"]
    wanted = {
        "Type": "notify",
        "NotifyAccess": "main",
        "Restart": "always",
        "RestartPreventExitStatus": "78",
        "KillMode": "process",
        "OOMScoreAdjust": "-999",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "TimeoutStartSec": "infinity",
        "Slice": "longshore.slice",
        "OOMPolicy": "continue",
    }
    assert {key: service[key] for key in wanted} == wanted
    assert "WatchdogSec" in service
    assert read(name)["Install"]["WantedBy"] == "longshore.target"
    assert read(name)["Unit"]["PartOf"] == "longshore.target"


def test_the_target_wants_every_service() -> None:
    target = read("longshore.target")
    assert set(target["Unit"]["Wants"].split()) == {*NAMES, "longshore-shutdown.service"}
    assert target["Install"]["WantedBy"] == "multi-user.target"


def test_the_slice_grants_what_its_services_are_promised() -> None:
    """memory.min of a service counts only up to what its slice has; containerd is to have 128 MiB of it."""
    promised = [int(read(name)["Service"]["MemoryMin"].removesuffix("M")) for name in NAMES]
    assert int(read("longshore.slice")["Slice"]["MemoryMin"].removesuffix("M")) >= sum(promised) + 128


def test_a_stop_of_the_machine_waits_for_the_pods_and_finds_everything_there() -> None:
    unit = read("longshore-shutdown.service")
    after = "containerd.service longshore-agent.service longshore-proxy.service network.target network-online.target"
    assert set(after.split()) <= set(unit["Unit"]["After"].split())
    assert unit["Unit"]["RefuseManualStop"] == "yes"
    assert {"Requires", "BindsTo", "PartOf", "DefaultDependencies"}.isdisjoint(unit["Unit"])
    assert unit["Service"]["ExecStop"] == "-/usr/bin/longshore shutdown"
    assert (unit["Service"]["TimeoutStopSec"], unit["Service"]["RemainAfterExit"]) == ("infinity", "yes")


def test_containers_are_stopped_after_that() -> None:
    assert read("cri-containerd-.scope.d/longshore.conf")["Unit"]["Before"] == "longshore-shutdown.service"


def test_the_agent_keeps_the_hosts_mount_namespace() -> None:
    """Any of these would give the agent mounts of its own, which containers never see."""
    private = {
        "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ProtectKernelTunables",
        "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ReadOnlyPaths", "ReadWritePaths",
        "InaccessiblePaths", "TemporaryFileSystem", "BindPaths", "RootDirectory", "MountFlags", "ProtectProc",
        "DynamicUser", "ProtectHostname", "NetworkNamespacePath", "PrivateNetwork", "PrivateUsers",
    }  # fmt: skip
    assert private.isdisjoint(read("longshore-agent.service")["Service"])


def test_what_the_agent_makes_can_be_read_by_log_shippers() -> None:
    assert "UMask" not in read("longshore-agent.service")["Service"]


def test_what_the_proxy_needs_is_not_shut() -> None:
    service = read("longshore-proxy.service")["Service"]
    shut = {"ProtectKernelTunables", "ProtectKernelModules", "PrivateNetwork", "PrivateUsers", "User", "DynamicUser"}
    assert shut.isdisjoint(service)
    assert {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_MODULE"} <= set(service["CapabilityBoundingSet"].split())
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} == set(service["RestrictAddressFamilies"].split())
    assert service["ReadWritePaths"] == "/run", "the lock of all iptables of the host is a file there"


def test_the_sample_of_the_agent_is_accepted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sample = (UNITS / "agent.yaml").read_text()
    directory = tmp_path / "manifests"
    directory.mkdir()
    path = tmp_path / "agent.yaml"
    path.write_text(sample.replace("/etc/longshore/manifests", str(directory)))
    config = load_agent_config([f"--config={path}"], host_name=lambda: "n1")
    assert config.static_pod_path == directory
    assert config.root_dir == Path("/var/lib/longshore")
    assert config.notes == ()
    assert [(one.priority, one.period_s) for one in config.shutdown_periods] == [(0, 20), (2_000_000_000, 10)]


def test_the_sample_of_the_proxy_is_accepted() -> None:
    config = load_proxy_config([f"--config={UNITS / 'proxy.yaml'}"])
    assert config.mode == "iptables"
    assert str(config.manifest_dir) == "/etc/longshore/services"
    assert config.warnings == ()


def test_the_folder_is_no_package() -> None:
    assert not (UNITS / "__init__.py").exists(), "it would hide systemd-python"
