"""Which release of Kubernetes the daemons stand for, and what Kubernetes calls this machine.  Pure.

Before: nothing.  Next: the Node, the metrics and the pages that say what a program is.
"""

from __future__ import annotations

import platform
import sys

KUBERNETES_VERSION = "v1.36.3"
"""Whose kubelet and kube-proxy these are: controllers read a Node's version and decide by it what the node can do."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def full_version(own_version: str) -> str:
    """Such as v1.36.3+longshore-1.0."""
    return f"{KUBERNETES_VERSION}+longshore-{own_version}"


def go_architecture() -> str:
    """Of this machine, as Go and so Kubernetes call it."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def go_platform() -> str:
    """Such as linux/amd64."""
    return f"{sys.platform}/{go_architecture()}"


def python_version() -> str:
    """Where a program of Go tells Go's."""
    return f"{platform.python_implementation()} {platform.python_version()}"
