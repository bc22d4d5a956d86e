"""One backend of two IP families, of which one may fail."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.backend import BackendError
from proxy.family_backend import FamilyBackend
from proxy.resolve import resolve
from proxy.routes import NodeFacts


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


async def test_a_failure_says_its_family_and_the_other_one_is_written() -> None:
    async def nothing() -> None: ...

    engines: list[Any] = [Engine(6, BackendError("cannot write service rules: locked")), Engine(4, BackendError("too"))]
    with pytest.raises(BackendError, match="locked") as caught:
        await FamilyBackend(engines, nothing).apply(resolve([], [], [], NodeFacts("n")).table)
    assert [(one.family, one.failed) for one in caught.value.syncs] == [(6, True), (4, True)]
    assert [one.asked for one in engines] == [1, 1]
