"""One backend of two IP families, of which one may fail."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.backend import BackendError, FlowsLook
from proxy.conntrack import Frontends, StaleFlows
from proxy.family_backend import FamilyBackend, Outcome
from proxy.resolve import resolve
from proxy.routes import NodeFacts, RoutingTable
from tests.unit.proxy.test_conntrack import A, dns


class Engine:
    """Does as it is told; what else an engine has is not asked of it."""

    failed_writes = failed_changes = 0

    def __init__(self, family: int, failure: BackendError | None = None) -> None:
        self.family = family
        self.asked = 0
        self._failure = failure

    async def apply(self, _: object) -> Any:
        self.asked += 1
        if self._failure is not None:
            raise self._failure
        return Outcome(1, False, ())


async def test_a_failure_says_its_family_and_the_other_one_is_written() -> None:
    async def nothing() -> None: ...

    engines: list[Any] = [Engine(6, BackendError("cannot write service rules: locked")), Engine(4, BackendError("too"))]
    with pytest.raises(BackendError, match="locked") as caught:
        await FamilyBackend(engines, nothing).apply(resolve([], [], [], NodeFacts("n")).table)
    assert [(one.family, one.failed) for one in caught.value.syncs] == [(6, True), (4, True)]
    assert [one.asked for one in engines] == [1, 1]


async def test_stale_flows_of_a_family_that_was_written_go_although_the_other_one_failed() -> None:
    async def nothing() -> None: ...

    looked: list[int] = []

    def look(_: Frontends, family: int) -> FlowsLook:
        looked.append(family)
        return FlowsLook(0.0, 3)

    engines: list[Any] = [Engine(4), Engine(6, BackendError("cannot write service rules: locked"))]
    with pytest.raises(BackendError) as caught:
        await FamilyBackend(engines, nothing, StaleFlows(look)).apply(RoutingTable((dns(A),)))
    assert looked == [4]
    assert caught.value.flows == {4: FlowsLook(0.0, 3)}
    assert [(one.family, one.failed, one.full) for one in caught.value.syncs] == [(4, False, False), (6, True, True)]
