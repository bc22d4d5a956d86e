"""The files that the agent itself gives to containers: the hosts file and the termination logs.

Before: pods/execute, before a container is created.  Next: container_spec/mounts.py names them to the runtime.
Effects: small files in the pod's directory, which is the agent's own storage.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from lightkube.models import core_v1

from agent.container_spec.labels import uid_of
from agent.container_spec.paths import container_dir, etc_hosts_path, termination_log_path
from agent.volumes.errors import VolumeError
from agent.volumes.hosts_file import render_host_network_file, render_hosts_file

_MAX_MESSAGE_BYTES = 4096


def write_hosts_file(pod: core_v1.Pod, root_dir: str, pod_ips: Sequence[str], hostname: str, domain: str = "") -> None:
    """Write the pod's /etc/hosts, in place: containers that run see the new text. Raises VolumeError."""
    spec = pod.spec
    aliases = (spec.hostAliases if spec is not None else None) or ()
    path = etc_hosts_path(root_dir, uid_of(pod))
    try:
        if spec is not None and spec.hostNetwork:
            with open("/etc/hosts", encoding="utf-8", errors="surrogateescape") as file:
                text = render_host_network_file(file.read(), aliases)
        else:
            text = render_hosts_file(pod_ips, hostname, domain, aliases)
        make_dirs(os.path.dirname(path), root_dir)
        _write_if_changed(path, text.encode(errors="surrogateescape"))
    except OSError as error:
        raise VolumeError("FailedMount", f"cannot write hosts file {path}: {error.strerror}") from error


def create_termination_log(pod: core_v1.Pod, root_dir: str, container: str, attempt: int) -> str:
    """Make the empty, world-writable file for the termination message of one attempt; its path. Raises VolumeError."""
    path = termination_log_path(root_dir, uid_of(pod), container, attempt)
    try:
        make_dirs(container_dir(root_dir, uid_of(pod), container), root_dir)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            os.fchmod(fd, 0o666)
        finally:
            os.close(fd)
    except OSError as error:
        raise VolumeError("FailedMount", f"cannot make termination log {path}: {error.strerror}") from error
    return path


def read_termination_log(path: str) -> str:
    """The termination message: at most the last 4096 bytes; "" when there is no such regular file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return ""
        file.seek(max(0, found.st_size - _MAX_MESSAGE_BYTES))
        return file.read(_MAX_MESSAGE_BYTES).decode(errors="replace")


def remove_termination_log(path: str) -> None:
    """Remove the file of an attempt whose container is gone."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def make_dirs(directory: str, root_dir: str) -> None:
    """Make a directory below the root, every new level with the kubelet's rights (0750, less the umask)."""
    if os.path.isdir(directory):
        return
    if os.path.normpath(directory) != os.path.normpath(root_dir):
        make_dirs(os.path.dirname(directory), root_dir)
    os.makedirs(directory, 0o750, exist_ok=True)


def _write_if_changed(path: str, content: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with open(fd, "r+b") as file:
        os.fchmod(fd, 0o644)
        if file.read(len(content) + 1) != content:  # it is the pod's to write, however much
            file.seek(0)
            file.write(content)
            file.truncate()
