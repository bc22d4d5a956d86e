"""What the configuration says about the API server: clientConnection and --master.  Pure.

Before: `proxy.config_reader`.  Next: `proxy.config` has it in `ProxyConfig.api`, `proxy.api_access` acts on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kube_client.config import ConfigError as ApiConfigError
from kube_client.kubeconfig import server_urls
from proxy.config_reader import Reader
from proxy.config_values import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiAccess:
    """Which API server to follow, and how gently."""

    kubeconfig: Path | None = None
    master: tuple[str, ...] = ()
    """URLs, which come before the server of the kubeconfig."""
    qps: float = 0.0
    """0: client-go's default; below 0: no limit."""
    burst: int = 0
    offline_dir: Path | None = None
    """Where what it told last is kept; None: nowhere."""


def read_access(read: Reader) -> ApiAccess:
    """Raises ConfigError."""
    kubeconfig, master = read.text("clientConnection.kubeconfig"), read.given("master")
    offline = read.text("offline.directory")
    qps = read.given("clientConnection.qps")
    try:
        urls = server_urls(str(master.value), master.where) if master is not None and master.value else ()
    except ApiConfigError as error:
        raise ConfigError(str(error)) from None
    return ApiAccess(
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        master=urls,
        qps=float(str(qps.value)) if qps is not None else 0.0,
        burst=read.number("clientConnection.burst", 0, 0, 2**31 - 1),
        offline_dir=Path(offline).absolute() if offline else None,
    )


def content_type_warnings(read: Reader) -> tuple[str, ...]:
    """For types that are not spoken."""
    settings = (read.given(f"clientConnection.{name}") for name in ("acceptContentTypes", "contentType"))
    return tuple(
        f"{setting.where}: the API server is asked for JSON, not for {setting.value}"
        for setting in settings
        if setting is not None and setting.value and "application/json" not in str(setting.value)
    )
