"""How long this machine's tasks have waited for processor, memory and disk (PSI).  I/O: small files.

Before: `node_use` measures the node.  Next: `summary` tells it.  The kubelet has it on cgroup v2 alone, so only there
is it read.  Source: Documentation/accounting/psi.rst of Linux.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.node.facts import cgroup_version
from cri_client.messages.stats import PsiData, PsiStats


@dataclass(frozen=True, slots=True)
class NodePressure:
    """Of the root of the cgroups, which is the whole machine; None is what the kernel does not say."""

    cpu: PsiStats | None = None
    memory: PsiStats | None = None
    io: PsiStats | None = None


def read_node_pressure(mount_point: str = "/sys/fs/cgroup") -> NodePressure:
    """Nothing where cgroups are not v2 (or hybrid), or the kernel has PSI not built in or switched off."""
    if cgroup_version(mount_point) != 2:
        return NodePressure()
    return NodePressure(*(_read(Path(mount_point, f"{name}.pressure")) for name in ("cpu", "memory", "io")))


def _read(path: Path) -> PsiStats | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # there, but EOPNOTSUPP, with psi=0
        return None
    by_kind = {kind: _parse(rest) for kind, _, rest in (line.partition(" ") for line in lines)}
    return PsiStats(by_kind.get("full"), by_kind.get("some"))


def _parse(text: str) -> PsiData:
    values = dict(pair.split("=") for pair in text.split())
    return PsiData(int(values["total"]), *(float(values[f"avg{seconds}"]) for seconds in (10, 60, 300)))
