"""The log files of containers and the links to them that log shippers follow. I/O on our own disk.

Before: `execute` starts a container, or removes one. The runtime writes the log itself, to
`podLogsDir/NAMESPACE_NAME_UID/CONTAINER/ATTEMPT.log`; next to podLogsDir there is, as with the kubelet, a directory
`containers` with one link for each container, `NAME_NAMESPACE_CONTAINER-ID.log`. A link is made before its container
starts and removed before its container is, so that a crash leaves neither a log without a link nor a link without a
container.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from glob import escape, iglob

MAX_NAME_BYTES = 255  # of a file on ext4: what is too long is cut before ".log", as the kubelet does


def links_dir(pod_logs_dir: str) -> str:
    """The directory of the links: `/var/log/containers` for `/var/log/pods`. Pure."""
    return os.path.join(os.path.dirname(pod_logs_dir.rstrip("/")), "containers")


def link_path(pod_logs_dir: str, namespace: str, name: str, container: str, container_id: str) -> str:
    """The link of one container. Pure."""
    stem = f"{name}_{namespace}_{container}-{container_id}"
    return os.path.join(links_dir(pod_logs_dir), f"{stem[: MAX_NAME_BYTES - len('.log')]}.log")


def name_in_logs(pod_logs_dir: str, uid: str) -> tuple[str, str]:
    """Namespace and name of the pod with this UID, as its log directory is named; empty when it has none."""
    for found in iglob(f"*_*_{escape(uid)}", root_dir=pod_logs_dir):
        namespace, name, _ = found.split("_", 2)
        return namespace, name
    return "", ""


def make_link(link: str, log: str) -> None:
    """Let `link` lead to `log`, which need not exist yet. Raises OSError."""
    os.makedirs(os.path.dirname(link), 0o755, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(log, link)


def remove_container_log(link: str, log: str) -> None:
    """Remove the link and the log of one container with what was rotated of it. Raises OSError."""
    for path in (link, *iglob(f"{escape(log)}*")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def remove_pod_logs(pod_logs_dir: str, namespace: str, name: str, log_dir: str) -> None:
    """Remove the logs of a whole pod, and every link that leads there. Raises OSError."""
    for link in iglob(f"{escape(os.path.join(links_dir(pod_logs_dir), f'{name}_{namespace}_'))}*"):
        with contextlib.suppress(OSError):  # not a link, or gone meanwhile
            if os.readlink(link).startswith(f"{log_dir}/"):
                os.unlink(link)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(log_dir)
