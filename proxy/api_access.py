"""Where the API server is, if there is one: kubeconfig, --master or the pod this proxy runs in.  Reads files.

Before: `proxy.config`.  Next: `proxy.followers` makes a client of the answer for `proxy.sources.api_server`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kube_client.config import ApiConfig
from kube_client.config import ConfigError as ApiConfigError
from kube_client.credentials import load_identity
from kube_client.in_cluster import in_cluster_config
from kube_client.kubeconfig import read_kubeconfig
from proxy.config import ConfigError, ProxyConfig


def find_api(config: ProxyConfig, environment: Mapping[str, str]) -> ApiConfig | None:
    """None for a node that works alone.  Raises ConfigError, also for credentials that cannot be read.

    As kube-proxy does, a pod that was told of no server uses its service account.
    """
    try:
        found = _find(config, environment)
        if found is not None:
            load_identity(found)
    except ApiConfigError as error:
        raise ConfigError(str(error)) from None
    check_local_mode(config, found)
    return found


def check_local_mode(config: ProxyConfig, api: ApiConfig | None) -> None:
    """Raises ConfigError for a detectLocalMode that wants an API server where there is none."""
    if api is None and config.detect_local_mode == "NodeCIDR":
        raise ConfigError("detectLocalMode NodeCIDR needs the Node object of an API server: set --kubeconfig")


def reads_directory(config: ProxyConfig, api: ApiConfig | None) -> bool:
    """Whether Services come from the manifest directory (too)."""
    return api is None or config.manifest_dir_given


def check_directories(config: ProxyConfig) -> None:
    """Raises ConfigError for a directory that must be there and is not."""
    if not config.manifest_dir.is_dir():
        raise ConfigError(
            f"flag --manifest-dir: {config.manifest_dir} is not a directory; create it (mkdir -p {config.manifest_dir})"
        )


def _find(config: ProxyConfig, environment: Mapping[str, str]) -> ApiConfig | None:
    access = config.api
    if access.kubeconfig is not None:
        found = read_kubeconfig(access.kubeconfig)
        return replace(found, servers=access.master) if access.master else found
    if access.master:
        return ApiConfig(servers=access.master)
    return None if config.manifest_dir_given else in_cluster_config(environment)
