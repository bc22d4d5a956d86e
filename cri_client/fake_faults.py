"""Faults, delays and the record of calls of the fake runtime. Needs a running event loop only where it waits.

Before this comes a test that arms a fault; after it `fake`, which passes every call through `Faults`.
"""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

MUTATING = frozenset(
    {
        "run_pod_sandbox",
        "stop_pod_sandbox",
        "remove_pod_sandbox",
        "create_container",
        "start_container",
        "stop_container",
        "remove_container",
        "update_container_resources",
        "update_pod_sandbox_resources",
        "update_runtime_config",
        "pull_image",
        "remove_image",
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it arrived: the method in snake_case and its positional arguments."""

    method: str
    arguments: tuple[object, ...]


@dataclass(slots=True)
class _Fault:
    error: Exception
    times: int
    after: bool


class Hold:
    """Keeps every call of one method waiting until release(); `arrived` is set when one waits."""

    def __init__(self, after: bool) -> None:
        self.after = after
        self.arrived = asyncio.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let the waiting calls and all later ones go on."""
        self._released.set()

    async def pass_through(self) -> None:
        """Wait here until released."""
        self.arrived.set()
        await self._released.wait()


class Faults:
    """What is to go wrong, by method in snake_case, and the calls made so far."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._faults: dict[str, list[_Fault]] = defaultdict(list)
        self._holds: dict[str, Hold] = {}
        self._delays_s: dict[str, float] = {}

    def fail_next(self, method: str, error: Exception, times: int = 1, *, after: bool = False) -> None:
        """Raise `error` from the next `times` calls; with `after` the call takes effect first (its answer is lost)."""
        self._faults[method].append(_Fault(error, times, after))

    def hold(self, method: str, *, after: bool = False) -> Hold:
        """Keep calls waiting until the returned hold is released; with `after` they have taken effect by then."""
        self._holds[method] = held = Hold(after)
        return held

    def delay(self, method: str, delay_s: float) -> None:
        """Let every later call of a method take this long (0 ends it)."""
        self._delays_s[method] = delay_s

    def mutating_calls(self) -> tuple[Call, ...]:
        """The calls so far that change the runtime."""
        return tuple(call for call in self.calls if call.method in MUTATING)

    async def before(self, method: str, arguments: tuple[object, ...]) -> None:
        """Record a call, then delay, hold or fail it."""
        self.calls.append(Call(method, arguments))
        if delay_s := self._delays_s.get(method, 0.0):
            await asyncio.sleep(delay_s)
        await self.strike(method)

    async def after(self, method: str) -> None:
        """Hold or fail a call that has taken effect."""
        await self.strike(method, after=True)

    async def strike(self, method: str, *, after: bool = False) -> None:
        """Hold or fail here what is armed for `method`."""
        held = self._holds.get(method)
        if held is not None and held.after is after:
            await held.pass_through()
        for fault in self._faults[method]:
            if fault.after is after and fault.times > 0:
                fault.times -= 1
                raise fault.error


class HasFaults(Protocol):
    """Whatever carries a `Faults`."""

    faults: Faults


F = TypeVar("F", bound=HasFaults)


def faulty(
    method: Callable[Concatenate[F, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[F, P], Coroutine[Any, Any, R]]:
    """Pass a method's calls through the faults of its object."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: F, /, *args: P.args, **kwargs: P.kwargs) -> R:
        await self.faults.before(name, (*args, *kwargs.values()))
        result = await method(self, *args, **kwargs)
        await self.faults.after(name)
        return result

    return call
