"""What the proxy does once, in place of running: clean up, prepare the kernel, write its configuration down.  I/O.

Before: `proxy.daemon` read the flags.  Next: the kernel, or a file; then the process ends.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import yaml

from daemonkit.files import write_atomic
from proxy.config import ConfigError, ProxyConfig
from proxy.config_document import config_document
from proxy.modes import prepare_kernel, remove_everything
from proxy.node import localnet_note, traffic_settings
from proxy.node_settings import write_conntrack

_log = logging.getLogger(__name__)


async def clean_up(config: ProxyConfig) -> None:
    """Remove every trace; raises BackendError."""
    await remove_everything(config.ipvs, localnet_note(config))
    _log.info("every service rule of ours is removed")


async def initialize(config: ProxyConfig) -> None:
    """Write the kernel settings that need more than CAP_NET_ADMIN; what cannot be written is logged.

    Raises BackendUnusableError where the mode cannot work here.
    """
    problems = write_conntrack(config.conntrack, os.cpu_count() or 1)
    problems += await prepare_kernel(config.mode, traffic_settings(config), config.ipvs)
    for problem in problems:
        _log.warning("%s", problem)
    _log.info("the kernel is prepared for mode %s", config.mode)


def write_configuration(config: ProxyConfig, path: Path) -> None:
    """The configuration in force, as a file that `--config` reads.  Raises ConfigError."""
    text = yaml.safe_dump(config_document(config), sort_keys=True)
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise ConfigError(f"flag --write-config-to: cannot write {path}: {error.strerror}") from None
