"""Is this host one the agent may run on at all? The kubelet's two refusals: cgroup v1 and swap.

Before: configuration, root and the lock of the state directory.  Next: agent/daemon, which ends with status 1.  The
rule is pure, `check_host` reads /sys/fs/cgroup and /proc/swaps.  Source: KubeletConfiguration failCgroupV1 (KEP-4569:
true since Kubernetes 1.35) and failSwapOn (true), proc_swaps(5).
"""

from __future__ import annotations

from typing import Protocol

from agent.node.facts import cgroup_version


class UnfitHostError(Exception):
    """The agent must not run here as it is configured; the text says what to do."""


class FitnessSettings(Protocol):
    """The part of AgentConfig that counts here."""

    @property
    def fail_cgroup_v1(self) -> bool:
        """Refuse a host with cgroup v1."""
        ...

    @property
    def fail_swap_on(self) -> bool:
        """Refuse a host that swaps."""
        ...


def check_host(settings: FitnessSettings) -> None:
    """Raises UnfitHostError."""
    problem = unfitness(settings, cgroup_version(), read_swaps())
    if problem is not None:
        raise UnfitHostError(problem)


def unfitness(settings: FitnessSettings, version: int, swaps: tuple[str, ...]) -> str | None:
    """Why this host is refused, with both ways out; None when it is fit."""
    if settings.fail_cgroup_v1 and version == 1:
        return (
            "cannot run pods: this host uses cgroup v1, which Kubernetes no longer supports; boot with "
            "systemd.unified_cgroup_hierarchy=1, or set failCgroupV1: false (--fail-cgroupv1=false)"
        )
    if settings.fail_swap_on and swaps:
        return (
            f"cannot run pods: swap is on ({', '.join(swaps)}); switch it off (swapoff -a, and take it out of "
            "/etc/fstab), or set failSwapOn: false (--fail-swap-on=false)"
        )
    return None


def read_swaps(path: str = "/proc/swaps") -> tuple[str, ...]:
    """The devices and files this host swaps to; none where the kernel has no swap."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ()
    return tuple(line.split()[0] for line in lines[1:] if line.strip())
