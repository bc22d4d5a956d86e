"""Which labels a node may give itself: those the admission plugin NodeRestriction lets pass.

Pure.  Before: flag --node-labels.  Next: agent/config refuses what may not be, agent/cluster writes the rest.  Source:
k8s.io/kubelet/pkg/apis (well-known labels), KEP-279.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

HOSTNAME = "kubernetes.io/hostname"
OS, ARCH = "kubernetes.io/os", "kubernetes.io/arch"
BETA_OS, BETA_ARCH = "beta.kubernetes.io/os", "beta.kubernetes.io/arch"
DEFAULT_LABELS = (
    HOSTNAME,
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    OS,
    ARCH,
    BETA_OS,
    BETA_ARCH,
)
"""Labels that a node sets right again when its Node has others; those beside them are only given to a Node it makes."""
_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def own_labels(node_name: str, operating_system: str, architecture: str, told: Mapping[str, str]) -> dict[str, str]:
    """The labels of this node; `told` (--node-labels) wins."""
    return {
        HOSTNAME: node_name,
        OS: operating_system,
        ARCH: architecture,
        BETA_OS: operating_system,
        BETA_ARCH: architecture,
        **told,
    }


def forbidden_labels_problem(names: Iterable[str]) -> str | None:
    """Why a node may not set these on itself; None when it may."""
    forbidden = sorted(name for name in names if _is_kubernetes(name) and not _is_nodes_own(name))
    if not forbidden:
        return None
    allowed = f"those that begin with {', '.join(_NAMESPACES)}, and {', '.join(sorted(DEFAULT_LABELS))}"
    return f"{', '.join(forbidden)}: of the labels of kubernetes.io and k8s.io a node may only set {allowed}"


def _is_kubernetes(name: str) -> bool:
    return any(_is_below(name, domain) for domain in ("kubernetes.io", "k8s.io"))


def _is_nodes_own(name: str) -> bool:
    return name in DEFAULT_LABELS or any(_is_below(name, domain) for domain in _NAMESPACES)


def _is_below(name: str, domain: str) -> bool:
    prefix, slash, _ = name.partition("/")
    return bool(slash) and (prefix == domain or prefix.endswith(f".{domain}"))
