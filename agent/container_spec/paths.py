"""Where the files of a pod lie under the agent's root directory and the log directory: the kubelet's layout, name for
name.

Pure: only names are computed.  agent/volumes makes and removes these directories, mounts.py and container.py name
them to the runtime, log shippers and `crictl` find them.  A termination log is named after the container's attempt
(the kubelet takes a random number), so that an agent that was killed in between finds the file it made.
"""

from __future__ import annotations

from pathlib import PurePosixPath

EMPTY_DIR_PLUGIN = "kubernetes.io~empty-dir"
CONFIG_MAP_PLUGIN = "kubernetes.io~configmap"
SECRET_PLUGIN = "kubernetes.io~secret"  # noqa: S105 - a directory's name
PROJECTED_PLUGIN = "kubernetes.io~projected"
DOWNWARD_API_PLUGIN = "kubernetes.io~downward-api"
NFS_PLUGIN = "kubernetes.io~nfs"
LOCAL_PLUGIN = "kubernetes.io~local-volume"


def pod_dir(root_dir: str, pod_uid: str) -> str:
    """The directory that holds everything of one pod: `<root>/pods/<uid>`."""
    return str(PurePosixPath(root_dir, "pods", pod_uid))


def volumes_dir(root_dir: str, pod_uid: str) -> str:
    """The directory that holds the pod's own volumes."""
    return str(PurePosixPath(pod_dir(root_dir, pod_uid), "volumes"))


def volume_path(root_dir: str, pod_uid: str, plugin: str, volume: str) -> str:
    """The host directory behind a volume of the pod's own."""
    return str(PurePosixPath(volumes_dir(root_dir, pod_uid), plugin, volume))


def sub_path_target(root_dir: str, pod_uid: str, volume: str, container: str, index: int) -> str:
    """Where the agent binds the part of a volume that the container's mount number `index` asks for."""
    return str(PurePosixPath(pod_dir(root_dir, pod_uid), "volume-subpaths", volume, container, str(index)))


def etc_hosts_path(root_dir: str, pod_uid: str) -> str:
    """The hosts file the agent writes and every container of the pod sees as /etc/hosts."""
    return str(PurePosixPath(pod_dir(root_dir, pod_uid), "etc-hosts"))


def container_dir(root_dir: str, pod_uid: str, container: str) -> str:
    """The directory for the termination logs of one container."""
    return str(PurePosixPath(pod_dir(root_dir, pod_uid), "containers", container))


def termination_log_path(root_dir: str, pod_uid: str, container: str, attempt: int) -> str:
    """The file mounted at the container's terminationMessagePath (eight hexadecimal digits, as the kubelet's)."""
    return str(PurePosixPath(container_dir(root_dir, pod_uid, container), f"{attempt:08x}"))


def pod_log_dir(pod_logs_dir: str, namespace: str, name: str, pod_uid: str) -> str:
    """`<logs>/NAMESPACE_NAME_UID`, what log shippers take apart again."""
    return str(PurePosixPath(pod_logs_dir, f"{namespace}_{name}_{pod_uid}"))


def container_log_path(container: str, attempt: int) -> str:
    """The log file relative to the pod's log directory: `NAME/ATTEMPT.log`."""
    return f"{container}/{attempt}.log"
