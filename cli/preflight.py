"""What a node needs, looked up on this host: each finding is well, or says how to make it so. I/O, changes nothing.

Before: `cli.check` chose the places. Next: it prints the findings. The machine around the node is looked at in
`cli.preflight_machine`, systemd in `cli.preflight_systemd`, the runtime in `cli.preflight_runtime`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.node.fitness import read_swaps

_CONTROLLERS = ("cpu", "memory", "pids")
CNI_ENDINGS = (".conf", ".conflist", ".json")
_COMMAND_DEADLINE_S = 15


@dataclass(frozen=True)
class Finding:
    """One line of the report. `ok` None: worth knowing, not a failure. `fix` says what to do where `ok` is not True."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where to look; a test looks elsewhere."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    cni_conf: Path = Path("/etc/cni/net.d")
    cni_bins: tuple[Path, ...] = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
    systemd: Path = Path("/run/systemd/system")
    manifest_dirs: tuple[Path, ...] = ()
    agent_config: Mapping[str, object] | None = None

    def refuses(self, field: str) -> bool | None:
        """Whether the agent refuses to start over `field`, which is true unless said otherwise; None: no file."""
        return None if self.agent_config is None else self.agent_config.get(field) is not False


def host_findings(places: Places) -> Iterator[Finding]:
    """Everything that can be seen without the runtime, in the order in which to repair it."""
    yield _root()
    yield _proc_sys(places)
    yield _cgroups(places)
    yield _swap(places)
    forward = "put net.ipv4.ip_forward = 1 into /etc/sysctl.d/90-longshore.conf, then: sysctl --system"
    yield _sysctl(places, "ip forwarding", "net/ipv4/ip_forward", forward)
    bridge = "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-iptables=1 (and keep both over a reboot)"
    yield _sysctl(places, "bridge-nf-call", "net/bridge/bridge-nf-call-iptables", bridge)
    yield _iptables()
    yield _nat_table()
    yield _conntrack(places)
    yield _cni(places)
    for directory in places.manifest_dirs:
        missing = f"mkdir -p {directory}"
        found = directory.is_dir()
        yield Finding("manifests", found, f"{directory}" + ("" if found else " is missing"), "" if found else missing)
    yield _systemd(places)


def _root() -> Finding:
    uid = os.geteuid()
    return Finding("root", uid == 0, f"uid {uid}", "" if uid == 0 else "run as root (sudo longshore check)")


def _proc_sys(places: Places) -> Finding:
    path = places.proc / "sys/net/ipv4"
    probe = path / "ip_forward"
    if os.access(probe, os.W_OK):
        return Finding("/proc/sys", True, "writable")
    fix = "mount -o remount,rw /proc/sys; in a container, run it privileged"
    return Finding("/proc/sys", False, f"{probe} cannot be written", fix)


def _cgroups(places: Places) -> Finding:
    unified = places.cgroup / "cgroup.controllers"
    if unified.exists():
        have, version = unified.read_text().split(), "v2"
    else:
        rows = [line.split() for line in read_text(places.proc / "cgroups").splitlines() if not line.startswith("#")]
        have, version = [row[0] for row in rows if len(row) == 4 and row[3] == "1"], "v1"
        have = [name for name in have if (places.cgroup / name).is_dir()]
    missing = [name for name in _CONTROLLERS if name not in have]
    if not missing:
        with_all = f"{version}, with {', '.join(_CONTROLLERS)}"
        if version == "v2":
            return Finding("cgroups", True, with_all)
        fix = "boot with cgroup v2, or set failCgroupV1: false for the agent"
        return Finding("cgroups", *_allowed(places.refuses("failCgroupV1"), with_all, fix))
    fix = f"boot with cgroup_enable={missing[0]}, or mount the controllers under {places.cgroup}"
    return Finding("cgroups", False, f"{version}, without {', '.join(missing)}", fix)


def _swap(places: Places) -> Finding:
    swaps = read_swaps(str(places.proc / "swaps"))
    if not swaps:
        return Finding("swap", True, "off")
    fix = "swapoff -a, and take it out of /etc/fstab; or set failSwapOn: false for the agent"
    return Finding("swap", *_allowed(places.refuses("failSwapOn"), f"on: {', '.join(swaps)}", fix))


def _allowed(refused: bool | None, detail: str, fix: str) -> tuple[bool | None, str, str]:
    """What the agent starts with only when its configuration says so: failure, a note without a file, or well."""
    if refused is False:
        return True, f"{detail}, as the agent's configuration allows", ""
    return (False if refused else None), detail, fix


def _sysctl(places: Places, name: str, key: str, fix: str) -> Finding:
    value = read_text(places.proc / "sys" / key).strip()
    dotted = key.replace("/", ".")
    if value == "1":
        return Finding(name, True, f"{dotted} = 1")
    return Finding(name, False, f"{dotted} = {value}" if value else f"{dotted} does not exist", fix)


def _iptables() -> Finding:
    install = "apt-get install iptables"
    for tool in ("iptables", "iptables-save", "iptables-restore"):
        if shutil.which(tool) is None:
            return Finding("iptables", False, f"{tool} is not on PATH", install)
    code, out = run_command("iptables", "--version")
    match = re.search(r"v([0-9.]+)(?: \((\w+)\))?", out)
    if code != 0 or match is None:
        return Finding("iptables", False, f"iptables --version: {out or code}", install)
    variant = {"nf_tables": "nft", "legacy": "legacy"}.get(match[2] or "legacy", match[2] or "legacy")
    return Finding("iptables", True, f"{match[1]}, variant {variant}")


def _nat_table() -> Finding:
    if shutil.which("iptables") is None:
        return Finding("nat table", False, "cannot be read without iptables", "apt-get install iptables")
    code, out = run_command("iptables", "-w", "5", "-t", "nat", "-S", "PREROUTING")
    if code == 0:
        return Finding("nat table", True, "readable")
    fix = (
        "run as root"
        if os.geteuid()
        else "modprobe nf_nat iptable_nat nf_tables; see that no other process holds the lock"
    )
    return Finding("nat table", False, out.splitlines()[0] if out else f"iptables exits {code}", fix)


def _conntrack(places: Places) -> Finding:
    limit = read_text(places.proc / "sys/net/netfilter/nf_conntrack_max").strip()
    if limit:
        return Finding("conntrack", True, f"up to {limit} connections")
    return Finding("conntrack", False, "the kernel module is not loaded", "modprobe nf_conntrack")


def _cni(places: Places) -> Finding:
    try:
        files = sorted(one for one in places.cni_conf.iterdir() if one.name.endswith(CNI_ENDINGS))
    except OSError:
        files = []
    if not files:
        fix = f"install a network plugin, or write a bridge configuration to {places.cni_conf}/10-longshore.conflist"
        return Finding("CNI", False, f"{places.cni_conf} holds no configuration", fix)
    try:
        name, plugins = _cni_plugins(files[0])
    except (OSError, ValueError) as error:
        return Finding("CNI", False, f"cannot read {files[0]}: {error}", "repair or remove the file")
    missing = [one for one in plugins if not any((bins / one).exists() for bins in places.cni_bins)]
    if missing:
        where = " or ".join(str(one) for one in places.cni_bins)
        fix = "apt-get install containernetworking-plugins, and let containerd's cni bin_dir point to them"
        return Finding("CNI", False, f"{files[0]} needs {', '.join(missing)}, not found in {where}", fix)
    return Finding("CNI", True, f"{files[0]}: network {name}, plugins {', '.join(plugins)}")


def _cni_plugins(path: Path) -> tuple[str, list[str]]:
    config = json.loads(path.read_bytes())
    if not isinstance(config, dict):
        raise ValueError("not a JSON object")
    parts = config.get("plugins", [config])
    if not isinstance(parts, list) or not all(isinstance(one, dict) and one.get("type") for one in parts):
        raise ValueError("a plugin has no type")
    types = [str(one["type"]) for one in parts]
    types += [
        str(one["ipam"]["type"]) for one in parts if isinstance(one.get("ipam"), dict) and one["ipam"].get("type")
    ]
    return str(config.get("name", "?")), types


def _systemd(places: Places) -> Finding:
    if places.systemd.is_dir():
        return Finding("systemd", True, "this machine was booted by it")
    return Finding("systemd", None, "not booted by it", "start longshore-agent and longshore-proxy by other means")


def read_text(path: Path) -> str:
    """The file's text, "" where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""


def run_command(*command: str) -> tuple[int, str]:
    """Exit status and output of a command that only looks."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, (done.stdout + done.stderr).strip()
