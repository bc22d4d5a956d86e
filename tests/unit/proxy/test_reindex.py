"""Following one change is the same as resolving everything anew, and touches nobody else."""

from __future__ import annotations

import random
from dataclasses import replace

from proxy.endpoints import SliceFacts
from proxy.resolve import NOTHING_RESOLVED, resolve
from proxy.routes import NodeFacts
from tests.unit.proxy.facts import piece, service, slice_endpoint

NODE = NodeFacts("node-a")
SERVICES = tuple(service(name=f"s{number}", cluster_ip=f"10.96.0.{number + 1}") for number in range(6))


def some_slice(dice: random.Random, number: int) -> SliceFacts:
    addresses = dice.sample(range(1, 9), dice.randint(0, 3))
    endpoints = [slice_endpoint(f"10.0.{number}.{each}", node=dice.choice(("node-a", "node-b"))) for each in addresses]
    made = piece(*endpoints, name=f"piece-{number}")
    # Of some services there are two slices, and some slices are of a service that does not exist.
    return replace(made, service=f"s{number % 7}")


def test_any_sequence_of_changes_gives_what_resolving_from_nothing_gives() -> None:
    dice = random.Random(6)  # noqa: S311 - no secret
    slices = tuple(some_slice(dice, number) for number in range(12))
    before = resolve(SERVICES, slices, (), NODE)
    for _ in range(60):
        at = dice.randrange(len(slices))
        changed = [*slices[:at], some_slice(dice, dice.randrange(12)), *slices[at + 1 :]]
        if dice.random() < 0.2:
            del changed[dice.randrange(len(changed))]
            changed += [some_slice(dice, dice.randrange(12))] if dice.random() < 0.5 else []
        elif dice.random() < 0.1:
            changed.append(some_slice(dice, dice.randrange(12)))
        if not changed:
            changed = list(slices)
        slices = tuple(changed)
        after = resolve(SERVICES, slices, (), NODE, before)
        assert after.table == resolve(SERVICES, slices, (), NODE, NOTHING_RESOLVED).table
        before = after


def test_a_slice_that_goes_while_another_of_its_service_comes() -> None:
    a, b, d = (piece(slice_endpoint(f"10.0.0.{number}"), name=f"web-{number}") for number in (1, 2, 3))
    before = resolve((service(),), (a, b), (), NODE)
    after = resolve((service(),), (b, d), (), NODE, before)
    assert [one.ip for one in after.table.routes[0].endpoints] == ["10.0.0.2", "10.0.0.3"]


def test_a_changed_slice_leaves_the_routes_of_all_others_the_same_objects() -> None:
    dice = random.Random(6)  # noqa: S311 - no secret
    slices = tuple(some_slice(dice, number) for number in range(6))
    before = resolve(SERVICES, slices, (), NODE)
    moved = replace(slices[2], endpoints=(slice_endpoint("10.9.9.9"),))
    after = resolve(SERVICES, (*slices[:2], moved, *slices[3:]), (), NODE, before)
    kept = [new is old for old, new in zip(before.table.routes, after.table.routes, strict=True)]
    assert kept == [True, True, False, True, True, True]
    assert after.parts["default", "s1"] is before.parts["default", "s1"]
