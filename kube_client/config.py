"""How to reach an API server and who to be there: the value that every kubeconfig becomes.  Pure; types only.

Before: `kube_client.kubeconfig` (a file) or `kube_client.in_cluster` (a pod).  Next: `kube_client.client`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


class ConfigError(ValueError):
    """The configuration cannot be used; the text is the whole line for the person: `file:line: field: message`."""


@dataclass(frozen=True, slots=True)
class Material:
    """PEM text that stands in the configuration itself or in a file, which is then read again when it changes."""

    where: str
    """`file:line: field`, for errors."""
    path: Path | None = None
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """Everything a client needs."""

    servers: tuple[str, ...]
    """Base URLs without a slash at the end; the first that answers is used."""
    ca: Material | None = None
    """None: the authorities that this machine trusts."""
    certificate: Material | None = None
    key: Material | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    """What is read from it comes before `token`."""
    insecure: bool = False
    """Believe whoever answers."""
    server_name: str = ""
    """The name in the server's certificate, where it is not that of its URL."""
    compressed: bool = True
    """Answers may come compressed."""
    warnings: tuple[str, ...] = ()
