"""The node's own credentials for registries: config.json files of Docker's form, and plugins. I/O.

Before: puller.py is about to pull.  Next: the credentials that fit, tried after those of the pod.  Files are read anew
at each pull, because people log in and out.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from agent.images.keyring import Credential, CredentialError, parse_docker_config

if TYPE_CHECKING:
    from agent.images.plugins import CredentialPlugins

MAX_BYTES = 1 << 20
_log = logging.getLogger(__name__)


class NodeCredentials:
    """`files` are config.json files that may be there; `plugins` None where none is configured."""

    def __init__(self, files: tuple[Path, ...], plugins: CredentialPlugins | None = None) -> None:
        self._files = files
        self._plugins = plugins
        self._complaint = ""

    async def credentials(self, image: str) -> tuple[Credential, ...]:
        """Everything the node knows for an image, plugins last."""
        found = await asyncio.to_thread(self._read)
        if self._plugins is not None:
            found += await self._plugins.credentials(image)
        return found

    def _read(self) -> tuple[Credential, ...]:
        found: tuple[Credential, ...] = ()
        for path in self._files:
            try:
                with path.open("rb") as file:
                    found += parse_docker_config(file.read(MAX_BYTES))
            except FileNotFoundError:
                continue
            except (OSError, CredentialError) as error:
                self._complain(f"cannot use the credentials of {path}: {getattr(error, 'strerror', None) or error}")
        return found

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            _log.warning("%s; going on without", text)
