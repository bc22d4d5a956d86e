"""Where the runtime listens: the endpoint as the kubelet reads it. Only looks at the file system.

Before this comes the configuration (`containerRuntimeEndpoint`), after it `channel`. Order without a setting: the
kubelet's default, containerd, and then the further sockets that kubeadm and crictl know. Source: kubelet
--container-runtime-endpoint; KEP-2040; unix(7) for the length of a path.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

from cri_client.errors import EndpointError

WELL_KNOWN = (
    "unix:///run/containerd/containerd.sock",
    "unix:///run/crio/crio.sock",
    "unix:///var/run/cri-dockerd.sock",
)
_LONGEST_PATH_BYTES = 107
_WHAT_TO_DO = "is the runtime installed (apt-get install containerd) and started (systemctl start containerd)?"


def discover_endpoint(explicit: str | None = None, well_known: tuple[str, ...] = WELL_KNOWN) -> str:
    """Return the endpoint as `unix:///path`: the explicit one, else the first whose socket exists, else containerd's.

    A path without a scheme is taken as a unix socket, as the kubelet does; any other scheme raises EndpointError.
    """
    if explicit:
        return f"unix://{socket_path(explicit)}"
    for endpoint in well_known:
        if _is_socket(socket_path(endpoint)):
            return endpoint
    return well_known[0]


def socket_path(endpoint: str) -> Path:
    """Return the path of a unix endpoint; EndpointError says what is wrong with any other."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("", "unix"):
        raise EndpointError(
            endpoint, f"only unix sockets are supported, not {parts.scheme!r}; use unix:///path/to/socket"
        )
    if parts.netloc or not parts.path.startswith("/"):
        raise EndpointError(endpoint, "the path of the socket must be absolute; use unix:///path/to/socket")
    if len(os.fsencode(parts.path)) > _LONGEST_PATH_BYTES:
        raise EndpointError(endpoint, f"the path of the socket is longer than {_LONGEST_PATH_BYTES} bytes")
    return Path(parts.path)


def explain_endpoint(endpoint: str) -> EndpointError | None:
    """Say what is wrong with the socket itself: absent, no socket, not permitted, nobody behind it; None when it
    answers.

    Connects without blocking: a listener whose queue is full counts as one that answers.
    """
    path = socket_path(endpoint)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return EndpointError(endpoint, f"no socket at {path}; {_WHAT_TO_DO}")
    except PermissionError:
        return EndpointError(endpoint, f"permission denied on the way to {path}; run as root")
    except OSError as error:
        return EndpointError(endpoint, f"{error.strerror} at {path}")
    if not stat.S_ISSOCK(mode):
        return EndpointError(endpoint, f"{path} is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return None
        except PermissionError:
            return EndpointError(endpoint, f"permission denied on {path}; run as root")
        except ConnectionRefusedError:
            return EndpointError(endpoint, f"nobody listens on {path}; {_WHAT_TO_DO}")
        except OSError as error:
            return EndpointError(endpoint, f"{error.strerror} on {path}")
    return None


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:
        return False
