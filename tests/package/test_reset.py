"""Which packages reset.yml purges: those that came with the node, also where a package that stays recommends them."""

from __future__ import annotations

import json
import shutil

from tests.ansible.ansible_runs import ANSIBLE
from tests.package.conftest import Chroot

CAME = ["libjansson4", "libnftables1", "nftables"]
MEMORY = "var/lib/longshore-ansible"


def test_what_came_is_purged_and_what_was_there_stays(chroot: Chroot) -> None:
    """The package depends on nftables, and the iptables that was there recommends it."""
    memory = chroot.root / MEMORY
    memory.mkdir()
    python = next((chroot.root / "usr/bin").glob("python3.*[0-9]"))
    (chroot.root / "usr/bin/python3").symlink_to(python.name)  # from a package that every real machine has
    shutil.copy(ANSIBLE / "roles" / "prereq" / "files" / "remove_packages.sh", memory)
    before = installed(chroot)
    assert set(CAME) < set(before)
    chroot.run(f"apt-mark auto {' '.join(CAME)}")
    assert reset(chroot, before, came=[]) == before, "nothing came"
    without = [name for name in before if name not in CAME]
    assert reset(chroot, without, came=[]) == before, "nobody noted that it came with the node"
    assert reset(chroot, without, came=CAME) == without


def reset(chroot: Chroot, before: list[str], came: list[str]) -> list[str]:
    """What is installed afterwards."""
    (chroot.root / MEMORY / "before.json").write_text(json.dumps({"packages": before}))
    (chroot.root / MEMORY / "came").write_text("".join(f"{name}\n" for name in came))
    chroot.run(f"bash -s -- /{MEMORY}/before.json iptables </{MEMORY}/remove_packages.sh")
    return installed(chroot)


def installed(chroot: Chroot) -> list[str]:
    shown = chroot.run("dpkg-query -W -f '${db:Status-Status} ${Package}\\n'").stdout
    return sorted(line.split()[1] for line in shown.splitlines() if line.startswith("installed "))
