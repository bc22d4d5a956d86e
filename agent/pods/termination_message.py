"""The last words of a container: its termination message file, or the end of its log. I/O on our own disk.

Called by `runtime_view` once for each container that ended. Next: the `message` of a terminated state. Sources: API
fields terminationMessagePath and terminationMessagePolicy; of a log the kubelet takes 80 lines or 2048 bytes.
"""

from __future__ import annotations

import os

from agent.container_spec.labels import parse_identity
from agent.container_spec.paths import termination_log_path
from agent.volumes.pod_files import read_termination_log
from cri_client.logs import LogLine, LogParser
from cri_client.types import Container, ContainerStatus

LOG_LIMIT_BYTES = 2048
LOG_LIMIT_LINES = 80
_READ_BYTES = 64 * 1024  # the runtime cuts lines at 16 KiB: in this much there is more than one whole record


def read_termination_message(root_dir: str, container: Container, status: ContainerStatus) -> str:
    """The message of an ended container, "" when it left none."""
    identity = parse_identity(container.labels, container.annotations)
    if identity is None or container.metadata is None or not identity.termination_message_path:
        return ""
    metadata = container.metadata
    path = termination_log_path(root_dir, identity.pod_uid, metadata.name, metadata.attempt)
    message = read_termination_log(path)
    if not message and identity.termination_message_policy == "FallbackToLogsOnError" and status.exit_code != 0:
        return log_tail(_read_end(status.log_path, _READ_BYTES))
    return message


def log_tail(log: bytes) -> str:
    """The last lines of a CRI log without their time, stream and tag; a record that is not whole is left out. Pure."""
    parser = LogParser(join_partials=True)
    lines = [one for one in (*parser.feed(log), *parser.close()) if isinstance(one, LogLine)]
    text = b"".join(line.content + (b"" if line.partial else b"\n") for line in lines[-LOG_LIMIT_LINES:])
    return text[-LOG_LIMIT_BYTES:].decode(errors="replace")


def _read_end(path: str, limit_bytes: int) -> bytes:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit_bytes))
            return file.read(limit_bytes)
    except OSError:
        return b""
