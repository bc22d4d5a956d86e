"""Mounts an export by mount(8), which leaves it to the distribution's mount.nfs: as the kubelet does, word for word.

Before: worker.py.  Next: the complaint goes back to nfs.py.  Effects: the mount.  It waits for a server: only ever run
in the worker, and killed with it.
"""

from __future__ import annotations

import os
import subprocess

HELPER = "/sbin/mount.nfs"


def mount_nfs(source: str, path: str, options: str) -> str:
    """The complaint, with the command and what it said, or ""."""
    arguments = ["-t", "nfs", *(["-o", options] if options else []), "--", source, path]
    # No pipe: a daemon that mount.nfs starts for locks would hold it open.
    with open(os.memfd_create("output"), "w+b") as output:
        try:
            done = subprocess.run(
                ["mount", *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
            )
        except OSError as error:
            return f"cannot run mount: {error.strerror}"
        if done.returncode == 0:
            return ""
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    if not os.access(HELPER, os.X_OK):
        said += f"\nrequired binary {HELPER} is missing (Debian package nfs-common)"
    command = f"Mounting command: mount\nMounting arguments: {' '.join(arguments)}"
    return f"mount failed: exit status {done.returncode}\n{command}\nOutput: {said}"
