"""What is there on this machine, as one JSON object on stdout: looks, and changes nothing.

Run by the role's tasks through `python3 - QUESTIONS`, on the node's own Python (3.10 or newer, standard library only).
QUESTIONS is a JSON object: `modules` (names), `sysctls` (dotted names), `ports` (numbers), `directories` (to be written
to), `paths` (there or not), `units` (of systemd). Next: the role compares the answer with what a node needs, on the
controller.
"""

import json
import os
import pwd
import re
import subprocess
import sys
import time
from pathlib import Path

OURS = "longshore"
BEFORE = Path("/var/lib/longshore-ansible/before.json")


def look(questions):
    """The whole answer, section by section."""
    return {
        "time_s": time.time(),
        **system(),
        "cgroup": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "loaded": sorted(line.split()[0] for line in (read("/proc/modules") or "").splitlines()),
        "modules": {name: module_state(name) for name in questions.get("modules", ())},
        "sysctls": {name: read("/proc/sys/" + name.replace(".", "/")) for name in questions.get("sysctls", ())},
        "swaps": [line.split()[0] for line in (read("/proc/swaps") or "").splitlines()[1:]],
        "directories": {name: directory_state(name) for name in questions.get("directories", ())},
        "listeners": listeners(set(questions.get("ports", ()))),
        "paths": {name: os.path.lexists(name) for name in questions.get("paths", ())},
        "running": running(questions.get("units", ())),
        "dpkg_problems": dpkg_problems(),
        "packages": {name: one["version"] for name, one in packages().items() if one["status"] == "installed"},
        "longshore_version": packages().get(OURS, {}).get("version", ""),
        "users": sorted(entry.pw_name for entry in pwd.getpwall()),
        "containerd": containerd(),
        "iptables": iptables_backend(),
        "before": BEFORE.exists() and BEFORE.stat().st_size > 0,
    }


def system():
    """Distribution, kernel, architecture as Debian names it, the service manager, and who we are."""
    lines = [line.partition("=") for line in (read("/etc/os-release") or "").splitlines()]
    release = {name: value.strip("\"'") for name, _, value in lines}
    return {
        "distribution": release.get("ID", "unknown"),
        "release": release.get("VERSION_ID", ""),
        "codename": release.get("VERSION_CODENAME", ""),
        "system": release.get("PRETTY_NAME", "an unknown system"),
        "kernel": os.uname().release,
        "architecture": run("dpkg", "--print-architecture")[1].strip(),
        "systemd": Path("/run/systemd/system").is_dir(),
        "uid": os.geteuid(),
    }


def read(path):
    """The text of a small file, None where it is not to be had."""
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def run(*command):
    """(exit status, stdout) of a command that only looks; 127 where there is no such program."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout


def module_state(name):
    """loaded, builtin, loadable or missing."""
    if Path("/sys/module", name).is_dir():
        return "loaded" if Path("/sys/module", name, "refcnt").exists() else "builtin"
    builtin = read(f"/lib/modules/{os.uname().release}/modules.builtin") or ""
    if re.search(rf"/{name.replace('_', '[_-]')}\.ko", builtin):
        return "builtin"
    return "loadable" if run("modprobe", "--dry-run", "--quiet", name)[0] == 0 else "missing"


def directory_state(name):
    """Free MiB and inodes of the file system that holds (or will hold) `name`, and whether it can be written."""
    path = Path(name)
    while not path.is_dir():
        path = path.parent
    facts = os.statvfs(path)
    return {
        "free_mib": facts.f_bavail * facts.f_frsize // 2**20,
        "free_inodes": facts.f_favail if facts.f_files else None,
        "read_only": bool(facts.f_flag & os.ST_RDONLY),
    }


def running(units):
    """Those of the units that are active, and enabled for the next boot."""
    shown = run("systemctl", "show", "--property=Id,ActiveState,UnitFileState", *units)[1] if units else ""
    facts = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.split("\n\n")]
    wanted = ("active", "enabled")
    return sorted(one.get("Id", "") for one in facts if (one.get("ActiveState"), one.get("UnitFileState")) == wanted)


def listeners(ports):
    """Who listens on which of the TCP ports: [{port, process, pid, ours}]."""
    inodes = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in (read(table) or "").splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == "0A" and port in ports:
                inodes[f"socket:[{fields[9]}]"] = port
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            port = inodes.pop(os.readlink(link), None)
        except OSError:
            continue
        if port is not None:
            found.append({"port": port, **process(link.parts[2])})
    unknown = {"process": "a process of another namespace", "pid": 0, "ours": False}
    found += [{"port": port, **unknown} for port in inodes.values()]
    return sorted(found, key=lambda one: one["port"])


def process(pid):
    """Name and pid; ours when it runs from our package or in one of our units."""
    command = (read(f"/proc/{pid}/cmdline") or "").replace("\0", " ").strip()
    ours = f"/{OURS}-" in (read(f"/proc/{pid}/cgroup") or "") or f"/opt/{OURS}/" in command or f"/{OURS}-" in command
    return {"process": read(f"/proc/{pid}/comm") or "?", "pid": int(pid), "ours": ours}


def dpkg_problems():
    """Packages that an installation which was cut off has left half done, and what dpkg would replay."""
    problems = []
    journal = Path("/var/lib/dpkg/updates")
    if journal.is_dir() and any(one.name.isdigit() for one in journal.iterdir()):
        problems.append("dpkg was interrupted")
    for name, facts in packages().items():
        if facts["status"] not in ("installed", "config-files", "not-installed") or facts["error"] != "ok":
            again = "" if facts["error"] == "ok" else " and has to be installed again"
            problems.append(f"{name} is {facts['status']}{again}")
    return problems


_packages = {}


def packages():
    """Name -> version and status, of all packages that dpkg knows."""
    if not _packages:
        shape = "${Package}\\t${Version}\\t${db:Status-Status}\\t${db:Status-Eflag}\\n"
        for line in run("dpkg-query", "-W", "-f", shape)[1].splitlines():
            name, version, status, error = line.split("\t")
            if name not in _packages or status == "installed":
                _packages[name] = {"version": version, "status": status, "error": error}
    return _packages


def iptables_backend():
    """Which iptables the machine's alternatives name: nft, legacy, or nothing where there is none."""
    try:
        return os.path.basename(os.readlink("/etc/alternatives/iptables")).replace("iptables-", "")
    except OSError:
        return ""


def containerd():
    """The containerd on PATH: version, and whose its configuration is (ours, package, other, none)."""
    status, text = run("containerd", "--version")
    match = re.search(r"\b(\d+)\.(\d+)\.(\d+)", text) if status == 0 else None
    path = Path("/etc/containerd/config.toml")
    config = read(path)
    if config is None:
        owner = "none"
    elif "Written by Longshore's playbook" in config:
        owner = "ours"
    else:
        md5 = run("md5sum", str(path))[1].split()[:1]
        conffiles = run("dpkg-query", "-W", "-f", "${Conffiles}\\n", "containerd", "containerd.io")[1]
        owner = "package" if md5 and md5[0] in conffiles.split() else "other"
    return {"version": ".".join(match.groups()) if match else None, "config": owner}


if __name__ == "__main__":
    print(json.dumps(look(json.loads(sys.argv[1]))))
