"""Put kernel parameters, modules and cgroups back to what they were before the node, and forget the node.

Run by reset.yml last, through `python3 - DIRECTORY...`, on the node's own Python (standard library only): directories
that were not there before, removed where they are empty. Reads /var/lib/longshore-ansible/before.json and removes it.
What is in use by somebody else stays. Prints what it did.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

MEMORY = Path("/var/lib/longshore-ansible")
SLICES = ("kubepods.slice", "longshore.slice")


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


def unload_modules(states):
    """Those that were not loaded before and that nobody uses."""
    for name in reversed([name for name, state in states.items() if state == "loadable"]):
        if Path("/sys/module", name).exists() and quiet("modprobe", "--remove", "--quiet", name) == 0:
            print(f"module {name}")


def remove_cgroups():
    """The slices of pods and of the node's services, once they are empty."""
    for name in SLICES:
        quiet("systemctl", "stop", name)
        root = Path("/sys/fs/cgroup", name)
        for directory, _, _ in os.walk(root, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                continue
            print(directory)


def remove_directories(names):
    """Empty directories, from the leaves up; what is in them is not ours."""
    for name in names:
        for directory, _, _ in os.walk(name, topdown=False):
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
    put_parameters_back(before.get("sysctls", {}))
    unload_modules(before.get("modules", {}))
    remove_directories(directories)
    quiet("systemctl", "daemon-reload")
    quiet("systemctl", "reset-failed", "longshore*", "containerd*", "kubepods*")
    if MEMORY.exists():
        shutil.rmtree(MEMORY)
        print(MEMORY)


if __name__ == "__main__":
    main(sys.argv[1:])
