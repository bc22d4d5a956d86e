"""The last words of a container: its termination message file, or the end of its log. I/O on our own disk.

Called by `runtime_view` once for each container that ended. Next: the `message` of a terminated state. Sources: API
fields terminationMessagePath and terminationMessagePolicy; of a log the kubelet takes 80 lines or 2048 bytes.
"""

from __future__ import annotations

import os

from agent.container_spec.labels import parse_identity
from agent.container_spec.paths import termination_log_path
from agent.volumes.pod_files import read_termination_log
from cri_client.types import Container, ContainerStatus

LOG_LIMIT_BYTES = 2048
LOG_LIMIT_LINES = 80


def read_termination_message(root_dir: str, container: Container, status: ContainerStatus) -> str:
    """The message of an ended container, "" when it left none."""
    identity = parse_identity(container.labels, container.annotations)
    if identity is None or container.metadata is None or not identity.termination_message_path:
        return ""
    metadata = container.metadata
    path = termination_log_path(root_dir, identity.pod_uid, metadata.name, metadata.attempt)
    message = read_termination_log(path)
    if not message and identity.termination_message_policy == "FallbackToLogsOnError" and status.exit_code != 0:
        return log_tail(_read_end(status.log_path, 4 * LOG_LIMIT_BYTES))
    return message


def log_tail(log: str) -> str:
    """The last lines of a CRI log without their time, stream and tag. Pure."""
    lines = [parts[3] for line in log.splitlines()[-LOG_LIMIT_LINES:] if len(parts := line.split(" ", 3)) == 4]
    return "\n".join(lines)[-LOG_LIMIT_BYTES:]


def _read_end(path: str, limit_bytes: int) -> str:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            return file.read(limit_bytes).decode(errors="replace")
    except OSError:
        return ""
