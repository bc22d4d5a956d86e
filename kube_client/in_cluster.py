"""The configuration of a client that runs as a pod: environment variables and the service account's files.  I/O.

Before: no kubeconfig was given.  Next: `kube_client.client`.  Source: client-go rest.InClusterConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kube_client.config import ApiConfig, Material
from kube_client.kubeconfig import server_urls

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def in_cluster_config(environment: Mapping[str, str], account: Path = _ACCOUNT) -> ApiConfig | None:
    """None where this is no pod with a service account.  Raises ConfigError."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    token = account / "token"
    if not host or not port or not token.is_file():
        return None
    url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return ApiConfig(
        servers=server_urls(url, "environment KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT"),
        ca=Material(f"{account / 'ca.crt'}", path=account / "ca.crt"),
        token_file=token,
    )
