"""The only writer of IPVS, of kube-ipvs0 and of our ipsets.  I/O; blocks.

Before: `proxy.ipvs.diff` made the steps.  Next: the kernel, by `proxy.ipvs.netlink`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

from proxy.ipvs.batch import AT_ONCE
from proxy.ipvs.diff import ServerStep, Step, TargetStep
from proxy.ipvs.messages import described, protocol_of
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
    """Do the steps in order, many in one go; where one of these fails, nothing behind them is begun.

    A virtual server that the kernel refuses is left out with its targets; any other failure raises StepError.
    """
    done: list[Step] = []
    refused: dict[ServerKey, str] = {}
    for part in parts(steps):
        asked = [step for step in part if not (isinstance(step, TargetStep) and step.key in refused)]
        for step, code in zip(asked, kernel.send(device, asked), strict=True):
            if not code:
                done.append(step)
            elif isinstance(step, TargetStep) and step.key in refused:
                continue  # it was sent together with its server
            elif isinstance(step, ServerStep | TargetStep) and _is_refusal(step, code):
                refused[step.key] = str(StepError(described(step), code))
            else:
                raise StepError(described(step), code)
    return Taken(tuple(done), refused)


def parts(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Neighbours that go over one socket, as many as it takes at once.  Pure."""
    for _, some in groupby(steps, key=protocol_of):
        while part := list(islice(some, AT_ONCE)):
            yield part


def _is_refusal(step: ServerStep | TargetStep, code: int) -> bool:
    if isinstance(step, ServerStep):
        return step.verb == "add" and code in _FOR_GOOD
    return step.verb == "add" and code in _FOR_GOOD - {errno.ENOENT}
