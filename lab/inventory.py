"""What is on a machine that a node could leave behind: rules, mounts, namespaces, cgroups, interfaces, routes,
processes, sysctls.

Before: the demo and the lab's tests take one before anything starts. Next: they take one after cleanup; `diff` of the
two says what is left.
`take` and `left_since` read (I/O); `diff`, `rule_lines` and `nft_lines` are pure.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from lab import cgroups
from lab.machine import Machine, run_captured

_SAVE_PROGRAMS = ("iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save")
_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/forwarding",
    "net/ipv4/conf/default/forwarding",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/vs/conntrack",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
)
# Places outside every base directory that containerd, CNI and runc are known to write to.
_DIRECTORIES = (
    "/run/containerd/s",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni/results",
    "/var/lib/cni/networks",
    "/run/runc",
    "/run/longshore",
    "/var/log/pods",
)
_SETTLING_S = 30.0
_COUNTERS = re.compile(r"\[\d+:\d+\]\s*|\bcounter packets \d+ bytes \d+\s*")
_BUILTIN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})


@dataclass(frozen=True)
class Inventory:
    """Sets of lines by kind; the kinds are the names people see ("rule", "mount", ...)."""

    kinds: Mapping[str, frozenset[str]]


def take(marks: Iterable[str] = (), machine: Machine | None = None) -> Inventory:
    """Everything there is now. Needs root to see everything.

    Processes and cgroups are those that carry one of `marks` (a base directory, a cgroup name) in their arguments,
    environment, mounts or path: others come and go on any machine. With `machine`, rules, interfaces and routes are
    that machine's.
    """
    marks = tuple(marks)
    run = run_captured if machine is None else machine.run

    def output(*argv: str) -> str:
        if machine is None and shutil.which(argv[0]) is None:
            return ""
        return run(argv, check=False).stdout

    rules = [f"{name}: {line}" for name in _SAVE_PROGRAMS for line in rule_lines(output(name))]
    return Inventory(
        {
            "rule": frozenset(rules),
            "nftables": frozenset(nft_lines(output("nft", "-s", "list", "ruleset"))),
            "interface": frozenset(_links(output("ip", "-o", "link"))),
            "address": frozenset(_addresses(output("ip", "-o", "addr"))),
            "route": frozenset(_routes(output("ip", "route", "show", "table", "all"))),
            "IPv6 route": frozenset(_routes(output("ip", "-6", "route", "show", "table", "all"))),
            "routing rule": frozenset(output("ip", "rule").splitlines()),
            "mount": frozenset(_mounts(Path("/proc/self/mountinfo").read_text())),
            "network namespace": frozenset(_named_namespaces()),
            "cgroup": frozenset(_cgroups(marks)),
            "process": frozenset(_processes(marks)),
            "directory": frozenset(_directories()),
            "sysctl": frozenset(sysctls()),
        }
    )


def diff(before: Inventory, after: Inventory) -> list[str]:
    """One line for each thing that appeared ("left: ...") or vanished ("gone: ..."), sorted; empty when nothing
    changed. A kernel setting that was not there before came with a module, which stays loaded: it is nothing left.
    """
    lines: list[str] = []
    for kind in sorted({*before.kinds, *after.kinds}):
        old, new = before.kinds.get(kind, frozenset()), after.kinds.get(kind, frozenset())
        known = {line.partition(" = ")[0] for line in old}
        left = (line for line in new - old if kind != "sysctl" or line.partition(" = ")[0] in known)
        lines += [f"left: {kind} {line}" for line in sorted(left)]
        lines += [f"gone: {kind} {line}" for line in sorted(old - new)]
    return lines


def left_since(before: Inventory, marks: Iterable[str] = (), *, apart_from: str = "") -> list[str]:
    """`diff` to now, without lines that hold `apart_from`; asked again for half a minute while there is any: what the
    kernel takes apart in its own time (a killed process that nobody has waited for yet, a namespace) is not left.
    """
    marks, deadline_s = tuple(marks), time.monotonic() + _SETTLING_S
    while True:
        lines = [line for line in diff(before, take(marks)) if not apart_from or apart_from not in line]
        if not lines or time.monotonic() > deadline_s:
            return lines
        time.sleep(0.2)


def rule_lines(saved: str) -> list[str]:
    """Chains and rules of an iptables-save text, each with its table; counters dropped, and the empty tables that
    exist for everybody as soon as somebody lists them (built-in chains with policy ACCEPT) dropped too.
    """
    lines: list[str] = []
    table = ""
    for raw in saved.splitlines():
        line = _COUNTERS.sub("", raw).strip()
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            if name not in _BUILTIN or policy != "ACCEPT":
                lines.append(f"{table} chain {name} {policy}")
        elif line.startswith("-A"):
            lines.append(f"{table} {line}")
    return lines


def nft_lines(listed: str) -> list[str]:
    """The statements of `nft -s list ruleset`, each with its table and chain; tables and built-in chains without
    rules are dropped.
    """
    lines: list[str] = []
    path: list[str] = []
    for raw in listed.splitlines():
        line = _COUNTERS.sub("", raw).strip()
        if line.endswith("{"):
            path.append(line.removesuffix("{").strip())
            if len(path) > 1 and path[-1].removeprefix("chain ") not in _BUILTIN:
                lines.append(" / ".join(path))
        elif line == "}":
            path.pop()
        elif line and not line.startswith("#") and not (line.startswith("type ") and line.endswith("policy accept;")):
            lines.append(" / ".join([*path, line]))
    return lines


def _links(listed: str) -> list[str]:
    """Names with their peers; flags and states come and go by themselves."""
    return [line.split(": ")[1].strip() for line in listed.splitlines() if ": " in line]


def _addresses(listed: str) -> list[str]:
    rows = (line.split() for line in listed.splitlines())
    return [f"{row[1]} {row[3]}" for row in rows if len(row) > 3 and not row[3].startswith("fe80:")]


def _routes(listed: str) -> list[str]:
    """Without what an interface makes for itself some time after it came up: link-local and multicast IPv6."""
    lines = (re.sub(r" expires \d+sec| metric \d+ pref \w+", "", line).strip() for line in listed.splitlines())
    return [line for line in lines if not re.search(r"\b(fe80:|ff00:)|^anycast", line)]


def _mounts(mountinfo: str) -> list[str]:
    lines = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        lines.append(
            f"{fields[4]} ({right.split(' ')[0]}, root {fields[3]})" if "nsfs" not in right else f"{fields[4]} (nsfs)"
        )
    return lines


def _named_namespaces() -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return os.listdir("/run/netns")
    return []


def _cgroups(marks: tuple[str, ...]) -> list[str]:
    found = []
    for top in cgroups.hierarchies():
        for directory, _, _ in os.walk(top):
            if any(mark in directory for mark in marks):
                found.append(directory)
    return found


def _processes(marks: tuple[str, ...]) -> list[str]:
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        traces = [_read(process.pid, name) for name in ("cmdline", "environ", "cgroup")]
        # A container's root file system names its snapshot's directory.
        traces += [line for line in _read(process.pid, "mountinfo").splitlines() if line.split(" ")[4] == "/"]
        if any(mark in trace for mark in marks for trace in traces):
            found.append(f"{process.pid} {traces[0].replace(chr(0), ' ').strip()}")
    return found


def _directories() -> list[str]:
    found = []
    for name in _DIRECTORIES:
        path = Path(name)
        if path.is_dir():
            found += [name, *(str(entry) for entry in path.iterdir())]
    return found


def sysctls() -> list[str]:
    """`key = value` of the kernel settings a node may touch."""
    found = []
    for key in _SYSCTLS:
        with contextlib.suppress(OSError):
            found.append(f"{key} = {Path('/proc/sys', key).read_text().strip()}")
    return found


def _read(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    return ""
