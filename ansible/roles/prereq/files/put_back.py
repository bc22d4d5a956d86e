"""Put kernel parameters, modules and cgroups back to what they were before the node, and forget the node.

Run by reset.yml last, through `python3 - DIRECTORY...`, on the node's own Python (standard library only): directories
that were not there before, removed where they are empty. Reads /var/lib/longshore-ansible/before.json and removes it.
What is in use by somebody else stays. Prints what it did.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MEMORY = Path("/var/lib/longshore-ansible")
NETFILTER = r"ip6?table_|ip6?_tables|x_tables|xt_|ipt_|ip6t_|nf_|nft_|nfnetlink|bpfilter"
FAMILY = rf"({NETFILTER}|br_netfilter|bridge|stp|llc|veth|overlay)"
SLICES = ("kubepods.slice", "longshore.slice")
CGROUPS = ("kubepods", *SLICES)  # the first one is what the cgroupfs driver makes


def quiet(*command):
    """Exit status of a command whose failing is no failure."""
    return subprocess.run(command, capture_output=True, check=False).returncode


def put_parameters_back(values):
    """Those that were there before; parameters of modules that came later are the kernel's defaults."""
    for name, value in values.items():
        path = Path("/proc/sys", *name.split("."))
        if value is not None and path.exists() and path.read_text().strip() != value:
            path.write_text(value + "\n")
            print(f"{name} = {value}")


def unload_modules(loaded, legacy_tables):
    """Modules of networks and pods that were not loaded before and that nobody uses.

    Tables of iptables-legacy do not count as used by the rules in them, so they stay unless `legacy_tables`.
    """
    family = re.compile(FAMILY if legacy_tables else rf"(?!ip6?table_){FAMILY}")
    left = True
    while left:
        rows = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
        unused = [row[0] for row in rows if row[2] == "0" and row[0] not in loaded and family.match(row[0])]
        left = [name for name in unused if quiet("rmmod", name) == 0]
        for name in left:
            print(f"module {name}")


def put_iptables_back(backend):
    """The alternative that the machine had, where iptables is there still."""
    for name in ("iptables", "ip6tables") if backend else ():
        link = Path("/etc/alternatives", name)
        if link.is_symlink() and os.readlink(link) != f"/usr/sbin/{name}-{backend}":
            quiet("update-alternatives", "--set", name, f"/usr/sbin/{name}-{backend}")
            print(f"{name}-{backend}")


def remove_cgroups():
    """Those of pods and of the node's services, once they are empty."""
    quiet("systemctl", "stop", *SLICES)
    for name in CGROUPS:
        remove_empty(f"/sys/fs/cgroup/{name}")


def remove_empty(root):
    """Empty directories, from the leaves up; what is in them is not ours."""
    for directory, _, _ in os.walk(root, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            continue
        print(directory)


def main(directories):
    """All of it; each step may be done already."""
    try:
        before = json.loads((MEMORY / "before.json").read_text())
    except OSError:
        before = {}
    remove_cgroups()
    put_iptables_back(before.get("iptables", ""))
    put_parameters_back(before.get("sysctls", {}))
    if before and "iptables" not in before["packages"]:
        Path("/run/xtables.lock").unlink(missing_ok=True)
    if before:
        unload_modules(before["loaded"], legacy_tables="iptables" not in before["packages"])
    for directory in directories:
        remove_empty(directory)
    quiet("systemctl", "daemon-reload")
    quiet("systemctl", "reset-failed", "longshore*", "containerd*", "kubepods*")
    if MEMORY.exists():
        shutil.rmtree(MEMORY)
        print(MEMORY)


if __name__ == "__main__":
    main(sys.argv[1:])
