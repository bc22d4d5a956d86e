"""What else of this machine a node stumbles over: kernel, disk, clock, ports, packages, configuration. I/O, changes
nothing.

Before: `cli.check` read the configuration files. Next: it prints the findings.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.config import ConfigError as AgentConfigError
from agent.config import load_config as load_agent_config
from cli.preflight import Finding, read_text, run_command
from daemonkit.release import release
from proxy.config import ConfigError as ProxyConfigError
from proxy.config import load_config as load_proxy_config

_OLDEST_KERNEL, _GOOD_KERNEL = (4, 19), (5, 8)
_LEAST_BYTES = 256 << 20
_LEAST_RUN_BYTES = 16 << 20  # /run is a tenth of the memory, and holds sockets and the runtime's notes only
_LEAST_PART = 0.1
_OUR_PACKAGES = ("longshore", "containerd", "runc", "iptables", "containernetworking-plugins")
_DAY_S = 86400.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to look; `configs` are the raw fields of agent.yaml and proxy.yaml, None where there is no file."""

    agent_file: Path
    proxy_file: Path
    agent_config: Mapping[str, object] | None
    proxy_config: Mapping[str, object] | None
    disks: tuple[Path, ...]
    proc: Path = Path("/proc")
    built_at_s: float = Path(__file__).stat().st_mtime


def machine_findings(machine: Machine) -> Iterator[Finding]:
    """Everything that is looked up here, in the order in which to repair it."""
    yield from _configuration(machine)
    yield kernel_finding(os.uname().release)
    yield _overlay(machine)
    yield from disk_findings(machine.disks)
    yield clock_finding(time.time(), machine.built_at_s)
    yield from _ports(machine)
    yield from _packages()


def _configuration(machine: Machine) -> Iterator[Finding]:
    for path, load in ((machine.agent_file, load_agent_config), (machine.proxy_file, load_proxy_config)):
        if not path.exists():
            yield Finding("configuration", None, f"{path} does not exist", "install the package, or see --config-dir")
            continue
        try:
            load(["--config", str(path)])
        except (AgentConfigError, ProxyConfigError) as error:
            yield Finding("configuration", False, str(error), "correct the field; the daemon would not start")
        else:
            yield Finding("configuration", True, str(path))


def kernel_finding(text: str) -> Finding:
    """Is the kernel new enough? `text` as uname -r prints it. Pure."""
    fix = "install a newer kernel (Debian 12 has 6.1, Ubuntu 22.04 has 5.15) and boot it"
    if release(text) < _OLDEST_KERNEL:
        return Finding("kernel", False, f"{text}, older than 4.19", fix)
    if release(text) < _GOOD_KERNEL:
        return Finding("kernel", None, f"{text}, older than 5.8: limits of cgroup v2 are not complete", fix)
    return Finding("kernel", True, text)


def _overlay(machine: Machine) -> Finding:
    if "overlay" in read_text(machine.proc / "filesystems").split():
        return Finding("overlay", True, "the kernel has it")
    fix = "modprobe overlay; echo overlay > /etc/modules-load.d/longshore.conf"
    return Finding("overlay", False, "the kernel module is not loaded, and images need it", fix)


def disk_findings(paths: tuple[Path, ...]) -> Iterator[Finding]:
    """Each file system that is written to, once: can it be written, is there room?"""
    seen: set[int] = set()
    for path in paths:
        there = next(one for one in (path, *path.parents) if one.exists())
        device = there.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        yield disk_finding(there, os.statvfs(there))


def disk_finding(path: Path, facts: os.statvfs_result) -> Finding:
    """What statvfs(3) says of the file system at `path`. Pure."""
    if facts.f_flag & os.ST_RDONLY:
        fix = f"see why in dmesg, then: mount -o remount,rw $(findmnt -n -o TARGET -T {path})"
        return Finding("disk", False, f"{path} is on a read-only file system", fix)
    free_bytes = facts.f_bavail * facts.f_frsize
    files = facts.f_favail / facts.f_files if facts.f_files else 1.0
    room = facts.f_bavail / facts.f_blocks if facts.f_blocks else 1.0
    part, kind = (files, "files") if files < room else (room, "bytes")
    detail = f"{path}: {free_bytes >> 20} MiB free, {part:.0%} of its {kind}"
    fix = "make room: crictl rmi --prune, journalctl --vacuum-size=200M, or a larger disk"
    least = _LEAST_RUN_BYTES if path.is_relative_to("/run") else _LEAST_BYTES
    if free_bytes < least or files < _LEAST_PART / 10:
        return Finding("disk", False, f"{detail}: full", fix)
    if part < _LEAST_PART:
        return Finding("disk", None, f"{detail}: nearly full", fix)
    return Finding("disk", True, detail)


def clock_finding(now_s: float, built_at_s: float) -> Finding:
    """Is it later than when this program was built? Unix seconds. Pure."""
    now = datetime.datetime.fromtimestamp(now_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now_s < built_at_s - _DAY_S:
        built = datetime.datetime.fromtimestamp(built_at_s, datetime.UTC).strftime("%Y-%m-%d")
        fix = "set it (date -s) and keep it: apt-get install systemd-timesyncd; timedatectl set-ntp true"
        return Finding("clock", False, f"{now}, before this program was built ({built})", fix)
    return Finding("clock", True, now)


def wanted_ports(agent: Mapping[str, object] | None, proxy: Mapping[str, object] | None) -> dict[int, tuple[str, str]]:
    """The ports the daemons would listen on: port -> (daemon, field). Pure."""
    found: dict[int, tuple[str, str]] = {}
    healthz = (agent or {}).get("healthzPort", 10248)
    if isinstance(healthz, int) and healthz:
        found[healthz] = ("longshore-agent", "healthzPort")
    for field, default in (("healthzBindAddress", 10256), ("metricsBindAddress", 10249)):
        tail = str((proxy or {}).get(field) or "").rpartition(":")[2]
        found[int(tail) if tail.isascii() and tail.isdigit() else default] = ("longshore-proxy", field)
    return found


def _ports(machine: Machine) -> Iterator[Finding]:
    wanted = wanted_ports(machine.agent_config, machine.proxy_config)
    busy = tuple(busy_ports(wanted, listening()))
    for port, daemon, field, who in busy:
        fix = f"stop that program, or choose another {field} for {daemon}"
        yield Finding("ports", False, f"{port} of {daemon} is in use by {who}", fix)
    if not busy:
        yield Finding("ports", True, f"{', '.join(map(str, wanted))} free or ours")


def busy_ports(
    wanted: Mapping[int, tuple[str, str]], holders: Mapping[int, tuple[int, str]]
) -> Iterator[tuple[int, str, str, str]]:
    """Port, daemon, field and who has it instead. Pure, but for whom others are hidden from."""
    for port, (daemon, field) in wanted.items():
        pid, command = holders.get(port, (0, daemon))
        if daemon in command or (not pid and os.geteuid()):
            continue
        yield port, daemon, field, f"process {pid} ({command})" if pid else "a process of another namespace"


def listening() -> dict[int, tuple[int, str]]:
    """Listening TCP ports here: port -> (pid, command line); pid 0 where that cannot be told."""
    import psutil  # late: only this needs it

    found: dict[int, tuple[int, str]] = {}
    for one in psutil.net_connections(kind="tcp"):
        if one.status != psutil.CONN_LISTEN or not one.laddr:
            continue
        command = ""
        with contextlib.suppress(psutil.Error):
            command = " ".join(psutil.Process(one.pid).cmdline()[:3]) if one.pid else ""
        found[one.laddr.port] = (one.pid or 0, command)
    return found


def _packages() -> Iterator[Finding]:
    if shutil.which("dpkg") is None:
        return
    code, out = run_command("dpkg", "--audit")
    if code == 0 and not out:
        yield Finding("packages", True, "none is half installed")
        return
    ours = [name for name in _OUR_PACKAGES if any(line.split()[:1] == [name] for line in out.splitlines())]
    fix = "dpkg --configure -a; apt-get install --fix-broken"
    detail = f"half installed: {', '.join(ours)}" if ours else (out.splitlines() or [f"dpkg --audit exits {code}"])[0]
    yield Finding("packages", False if ours else None, detail, fix)
