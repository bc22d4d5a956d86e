"""The disk of a virtual machine: this machine's Debian release with systemd and sshd, and what a node would install
from Debian lying ready as packages, because the machine has no way out. I/O, root.

Before: `lab.cache`. Next: `lab.vm` boots copies of it. Made by mmdebstrap and mke2fs in about two minutes, once per
content of this file and kernel package. The private key that opens the machines is in the cache too, never elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.cache import cached
from lab.images import build_archives
from lab.machine import LabError, run_captured

UML_MODULES = Path("/usr/lib/uml/modules")
IMAGES_IN_MACHINE = "/opt/lab-images"
REPOSITORY = "/var/lib/lab-repository"
_PRELOAD_C = Path(__file__).with_name("uml_preload.c")
_NEEDED = ("linux.uml", "gcc", "mmdebstrap", "mke2fs", "ssh", "ssh-keygen", "dpkg-scanpackages")
_SIZE = "6G"

# What a machine has before anybody makes a node of it.
_BASE = """dbus e2fsprogs iptables kmod less libpam-systemd netbase nfs-kernel-server openssh-server procps python3
    python3-apt sudo systemd iproute2 systemd-sysv udev"""
# What the playbook and the package install, and what those need.
_OFFERED = """bash-completion ca-certificates containerd containernetworking-plugins ipset libsystemd0
    conntrack nftables python3-venv runc systemd-timesyncd util-linux-extra"""

_NETWORK = """[Match]
Name=vec*
[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
"""
# The kernel's command line says which address this copy of the disk has: lab.address=ADDRESS/PREFIX lab.gateway=IP.
_ADDRESS_SCRIPT = """#!/bin/sh
for word in $(cat /proc/cmdline); do
    case "$word" in
        lab.address=*) address=${word#*=} ;;
        lab.gateway=*) gateway=${word#*=} ;;
    esac
done
cd /run/systemd/network/10-lab.network.d || exit
printf '[Network]\\nAddress=%s\\nGateway=%s\\n' "$address" "$gateway" >address.conf
# What comes in is handled by a thread: on the stack for interrupts User-mode Linux has not always room for all of it.
ip link set vec0 up
echo 1 >/sys/class/net/vec0/threaded
"""
_ADDRESS_UNIT = """[Unit]
Description=Address of this copy of the lab's machine
DefaultDependencies=no
Before=systemd-networkd.service
RequiresMountsFor=/run
[Service]
Type=oneshot
RuntimeDirectory=systemd/network/10-lab.network.d
RuntimeDirectoryPreserve=yes
ExecStart=/usr/local/sbin/lab-address
[Install]
WantedBy=systemd-networkd.service
"""
# A machine that is watched by a test needs no documents, no translations, no login sessions, and no device but disk and
# network; system calls and processes are dear here. dpkg's fsync stays: what a power cut leaves depends on it.
_NOT_UNPACKED = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
_MASKED = """apt-daily.timer apt-daily-upgrade.timer dev-hugepages.mount dev-mqueue.mount dpkg-db-backup.timer
    e2scrub_all.timer e2scrub_reap.service fstrim.timer getty.target kmod-static-nodes.service modprobe@.service
    proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount
    sys-kernel-tracing.mount systemd-ask-password-console.path systemd-ask-password-wall.path systemd-binfmt.service
    systemd-firstboot.service systemd-network-generator.service systemd-update-utmp.service
    systemd-update-utmp-runlevel.service"""
_COLDPLUG = """[Service]
ExecStart=
ExecStart=-udevadm trigger --type=all --action=add --subsystem-match=block --subsystem-match=net
"""
# A file server is there for who starts it (systemctl start nfs-server); version 4 alone needs nothing beside it.
_ONLY_ON_DEMAND = "nfs-blkmap nfs-client.target nfs-server rpcbind.service rpcbind.socket"
_NFS = """[nfsd]
threads = 1
vers3 = n
grace-time = 10
lease-time = 10
"""
_SSHD = """PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
UsePAM no
MaxStartups 100
"""


class NoMachineError(LabError):
    """This host lacks a program that virtual machines need; the text names it."""


@dataclass(frozen=True, slots=True)
class VmImage:
    """A bootable disk (read only: boot copies of it), the private key whose holder may log in as root, and what
    linux.uml has to have preloaded (see uml_preload.c).
    """

    disk: Path
    key: Path
    preload: Path


def vm_image() -> VmImage:
    """The image, built first when the cache has none. NoMachineError, or LabError with what a program said."""
    if missing := [name for name in _NEEDED if shutil.which(name) is None]:
        raise NoMachineError(f"cannot make a virtual machine: no {', '.join(missing)} here; run `make deps` as root")
    release = platform.freedesktop_os_release()["VERSION_ID"]
    content = f"{Path(__file__).read_text()} {_PRELOAD_C.read_text()} {_kernel_release()} {release}"
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    entry = cached("vm", digest, _build, keep=2)
    return VmImage(entry / "disk.ext4", entry / "key", entry / "preload.so")


def _kernel_release() -> str:
    releases = sorted(path.name for path in UML_MODULES.iterdir()) if UML_MODULES.is_dir() else []
    if not releases:
        raise NoMachineError(f"cannot make a virtual machine: no kernel modules in {UML_MODULES}; run `make deps`")
    return releases[-1]


def _build(entry: Path, scratch: Path) -> None:
    print("building the virtual machine's disk: about two minutes, once", flush=True)
    entry.mkdir(mode=0o700)
    run_captured(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(entry / "key")])
    root = scratch / "root"
    run_captured(["gcc", "-O2", "-shared", "-fPIC", "-o", str(entry / "preload.so"), str(_PRELOAD_C), "-ldl"])
    _bootstrap(root)
    _make_repository(root)
    _furnish(root, (entry / "key.pub").read_text())
    build_archives(root / IMAGES_IN_MACHINE.lstrip("/"))
    disk = entry / "disk.ext4"
    argv = ["mke2fs", "-q", "-t", "ext4", "-L", "lab", "-E", "root_owner=0:0", "-d", str(root), str(disk), _SIZE]
    run_captured(argv, timeout_s=900)


def _bootstrap(root: Path) -> None:
    """Debian itself, and the packages on offer with all they need on top of it, unpacked nowhere."""
    repository = f'"$1"{REPOSITORY}'
    download = "apt-get -o Acquire::Retries=5 install -y -qq --download-only --no-install-recommends"
    hooks = [
        'chroot "$1" apt-get clean',
        f'chroot "$1" {download} {" ".join(_OFFERED.split())}',
        f'mkdir -p {repository} && mv "$1"/var/cache/apt/archives/*.deb {repository}/',
    ]
    argv = [
        "mmdebstrap",
        "--quiet",
        '--aptopt=Acquire::Retries "5"',
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
    ]
    argv += [f"--dpkgopt=path-exclude={pattern}" for pattern in _NOT_UNPACKED]
    argv += [f"--include={','.join(_BASE.split())}", *(f"--customize-hook={hook}" for hook in hooks)]
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    run_captured([*argv, release, str(root), str(_apt_sources())], timeout_s=1800)


def _apt_sources() -> Path:
    """Where this machine gets Debian from, the machine in it gets it from too."""
    for place in (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")):
        if place.exists():
            return place
    raise NoMachineError("cannot make a virtual machine: no Debian sources in /etc/apt")


def _make_repository(root: Path) -> None:
    place = root / REPOSITORY.lstrip("/")
    index = run_captured(["sh", "-c", f"cd {place} && dpkg-scanpackages --multiversion . 2>/dev/null"], timeout_s=600)
    (place / "Packages").write_text(index.stdout)
    for old in (root / "etc/apt").rglob("*.sources"):
        old.unlink()
    (root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{REPOSITORY} ./\n")
    run_captured(["chroot", str(root), "apt-get", "update", "-qq"], timeout_s=600)


def _furnish(root: Path, public_key: str) -> None:
    """Network, access, kernel modules; no services that only wait for hardware."""
    _write(root / "etc/systemd/network/10-lab.network", _NETWORK)
    _write(root / "usr/local/sbin/lab-address", _ADDRESS_SCRIPT, 0o755)
    _write(root / "etc/systemd/system/lab-address.service", _ADDRESS_UNIT)
    _write(root / "etc/ssh/sshd_config.d/lab.conf", _SSHD)
    _write(root / "etc/systemd/system/systemd-udev-trigger.service.d/lab.conf", _COLDPLUG)
    _write(root / "root/.ssh/authorized_keys", public_key, 0o600)
    (root / "root/.ssh").chmod(0o700)
    _write(root / "etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    _write(root / "etc/fstab", "/dev/ubda / ext4 defaults 0 1\n")
    _write(root / "etc/machine-id", "")
    _write(root / "etc/resolv.conf", "# no name service here\n")
    (root / "etc/hostname").unlink(missing_ok=True)
    # This kernel has no nf_tables for IP, so Debian's default variant does not work on it.
    for name in ("iptables", "ip6tables"):
        run_captured(["chroot", str(root), "update-alternatives", "--set", name, f"/usr/sbin/{name}-legacy"])
    release = _kernel_release()
    shutil.copytree(UML_MODULES / release, root / "lib/modules" / release, symlinks=True, dirs_exist_ok=True)
    run_captured(["depmod", "-b", str(root), release])
    _write(root / "etc/nfs.conf.d/lab.conf", _NFS)
    systemctl = ["systemctl", f"--root={root}"]
    run_captured([*systemctl, "disable", *_ONLY_ON_DEMAND.split()])
    run_captured([*systemctl, "enable", "lab-address", "systemd-networkd", "ssh"])
    run_captured([*systemctl, "mask", *_MASKED.split()])


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.chmod(path, mode)


if __name__ == "__main__":
    try:
        print(vm_image().disk)
    except NoMachineError as reason:  # the tests that need one skip, and say the same
        print(reason)
