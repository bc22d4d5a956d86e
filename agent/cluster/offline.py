"""Opens the record of what the API server has told, where the configuration wants one (`offline.enabled`).  I/O.

Before: `side` begins.  Next: `kube_client.record` keeps pods, ConfigMaps, Secrets, Services, tokens and the Node
sealed, and gives them back to `kube_client.follow` while a server is away that has told nothing since the agent began.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from agent.config import AgentConfig
from daemonkit.seal import SealError
from kube_client.record import Record

DIRECTORY = "offline"
KEY_FILE = "key"
CREDENTIAL = "longshore-offline-key"
_log = logging.getLogger(__name__)


def open_record(config: AgentConfig) -> Record | None:
    """None where none is wanted, and where it cannot be used: then the agent waits for its API server as without it."""
    directory = config.root_dir / DIRECTORY
    if not config.cluster.offline:
        return None
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(given) / CREDENTIAL if given else None
    key = credential if credential is not None and credential.exists() else directory / KEY_FILE
    record = Record(directory, key)
    try:
        record.open()
    except (OSError, SealError) as error:
        _log.error("cannot use %s (offline.enabled): %s; without an API server no pod of it starts", directory, error)
        return None
    return record
