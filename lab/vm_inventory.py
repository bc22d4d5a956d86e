"""What is on a virtual machine that a node could leave behind, taken before it is one and compared after. I/O.

Before: `lab.vm` booted the machine. Next: tests/vm holds two pictures against each other with `differences`.
"""

from __future__ import annotations

import difflib

from lab.vm import VirtualMachine

# Section -> what prints it. Sorted, without counters and times, so that equal machines print equal texts.
_SECTIONS = {
    "packages": "dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' | grep -v ' un $'",
    "users and groups": "getent passwd; getent group",
    "units": "systemctl list-unit-files --no-legend --no-pager | awk '!/^session-/ {print $1, $2}' | sort",
    "failed units": "systemctl --failed --no-legend --no-pager | sort",
    "interfaces": "ip -o link | sed 's/^[0-9]*: //; s/@.*//; s/:.*//' | sort",
    "addresses": "ip -o addr show scope global | awk '{print $2, $4}' | sort",
    "routes": "ip route | sort; ip -6 route show type unicast | grep -v fe80 | sort",
    "namespaces": "ip netns list",
    "rules": "for one in iptables-legacy-save ip6tables-legacy-save; do command -v $one >/dev/null && $one"
    " | grep -v '^#' | sed 's/ \\[[0-9:]*\\]$//' | grep -v '^:[A-Z]* ACCEPT$' | grep -v '^\\*\\|^COMMIT'; done",
    # Not the credentials of systemd's own units, each there while its unit runs (as systemd-tmpfiles-clean by a timer).
    "mounts": "awk '{print $5}' /proc/self/mountinfo | grep -v '^/run/user\\|^/run/credentials/systemd-' | sort",
    "cgroups": "find /sys/fs/cgroup -maxdepth 1 -type d -printf '%P\\n' | sort",
    "modules configured": "ls /etc/modules-load.d /etc/sysctl.d",
    # Not those of modules that stay loaded: they come with the module and its own defaults.
    "sysctls": "sysctl -a 2>/dev/null | grep -E 'ip_forward|route_localnet|forwarding'"
    " | grep -v 'conf\\.\\(vec0\\|lo\\)' | sort",
    "etc": "find /etc -xdev -not -path '/etc/ssl/*' -printf '%y %p\\n' | grep -vE"
    " '/etc/(mtab|ld.so.cache|.pwd.lock|.updated|(passwd|group|g?shadow|sub[ug]id)-|alternatives|rc[0-6S].d)'"
    " | sort",
    "var": "ls -A /var/lib /var/log /opt /run | grep -vE '^(journal|wtmp|btmp|lastlog|private|apt|dpkg|alternatives"
    "|dpkg.log|xtables.lock|utmp|user|initctl|needrestart|.*\\.log|systemd)' | sort",
    # Not the kernel's own threads (children of 2, as ext4lazyinit on a new disk): they come and go as it likes.
    "processes": "ps -eo ppid=,comm= | awk '$1 != 2 {print $2}' | grep -vE"
    " '^(sshd|ps|sh|awk|sort|sleep|python3|systemd|bpfilter_umh|\\(|grep)' | sort -u",
}


def take(machine: VirtualMachine) -> dict[str, str]:
    """Section -> text, once the machine has booted to the end: ssh answers before."""
    machine.run(["timeout", "240", "systemctl", "is-system-running", "--wait"], check=False)
    return {name: machine.shell(f"export LC_ALL=C; {script}", check=False) for name, script in _SECTIONS.items()}


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Lines that came or went, each with its section; empty when the machine is as before. Pure."""
    found: list[str] = []
    for section, text in before.items():
        lines = difflib.unified_diff(text.splitlines(), after[section].splitlines(), lineterm="", n=0)
        found += [f"{section}: {line}" for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]
    return found
