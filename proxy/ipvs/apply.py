"""The only writer of IPVS, of kube-ipvs0 and of our ipsets.  I/O; blocks.

Before: `proxy.ipvs.diff` made the steps.  Next: the kernel, by `proxy.ipvs.netlink`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.ipvs.diff import AddressStep, EntryStep, ServerStep, Step, TargetStep
from proxy.ipvs.model import ServerKey
from proxy.ipvs.netlink import Kernel, StepError


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of the steps."""

    done: tuple[Step, ...]
    refused: dict[ServerKey, str]
    """Virtual servers that this kernel cannot have, and why."""


# What a kernel says of a server that it will not take the next time either.
_FOR_GOOD = frozenset({errno.ENOENT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL, errno.EAFNOSUPPORT})


def take(kernel: Kernel, device: int, steps: Iterable[Step]) -> Taken:
    """Do the steps in order.

    A virtual server that the kernel refuses is left out with its targets; any other failure raises StepError.
    """
    done: list[Step] = []
    refused: dict[ServerKey, str] = {}
    for step in steps:
        if isinstance(step, TargetStep) and step.key in refused:
            continue
        try:
            _take(kernel, device, step)
        except StepError as failure:
            if not _is_refusal(step, failure):
                raise
            assert isinstance(step, (ServerStep, TargetStep))  # noqa: S101 # _is_refusal has looked
            refused[step.key] = str(failure)
        else:
            done.append(step)
    return Taken(tuple(done), refused)


def _is_refusal(step: Step, failure: StepError) -> bool:
    if isinstance(step, ServerStep):
        return step.verb == "add" and failure.code in _FOR_GOOD
    return isinstance(step, TargetStep) and step.verb == "add" and failure.code in _FOR_GOOD - {errno.ENOENT}


def _take(kernel: Kernel, device: int, step: Step) -> None:
    if isinstance(step, EntryStep):
        kernel.entry(step.verb, step.name, step.entry)
    elif isinstance(step, ServerStep):
        kernel.server(step.verb, step.key, step.scheduler, step.affinity_s)
    elif isinstance(step, TargetStep):
        kernel.target(step.verb, step.key, step.target, step.weight)
    elif isinstance(step, AddressStep):
        kernel.address(step.verb, device, step.ip)
