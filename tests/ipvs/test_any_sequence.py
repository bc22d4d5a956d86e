"""Long sequences of changes, foreign edits and restarts in mode ipvs: after each, a fresh start has nothing to do."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from proxy.routes import RoutingTable, ServiceRoute
from tests.ipvs.conftest import Proxy
from tests.ipvs.kernel_state import add_address, clear_servers, empty_set, flush_rules, remove_device
from tests.kernel.netlab import Node
from tests.kernel.test_random_changes import SETTINGS, changed

_STEPS = 15
EDITS: tuple[Callable[[Node], None], ...] = (clear_servers, empty_set, flush_rules, add_address, remove_device)


@pytest.mark.parametrize("seed", range(2))
async def test_the_kernel_always_ends_where_a_fresh_start_ends(node: Node, proxy: Proxy, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - a test that can be repeated
    routes: dict[tuple[int, int], ServiceRoute] = {}
    backend = proxy.start((4, 6), SETTINGS)
    for step in range(_STEPS):
        changed(dice, routes)
        wanted = RoutingTable(tuple(sorted(routes.values(), key=lambda each: (each.name, each.family))))
        what = dice.choice(("change", "change", "foreign edit", "restart"))
        if what == "foreign edit" and step:
            dice.choice(EDITS)(node)
            await backend.resync()
        elif what == "restart":
            backend = proxy.start((4, 6), SETTINGS)
        report = await backend.apply(wanted)
        assert report.refused == (), f"seed {seed}, step {step}, {what}"
        check = await proxy.start((4, 6), SETTINGS).apply(wanted)
        assert check.changed_chains == 0, f"seed {seed}, step {step}, {what}: {check}"
    await backend.cleanup()
    assert "KUBE" not in node.save() + node.save(6)
