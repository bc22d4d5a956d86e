"""The pod that only warms up goes through the same code as any other; it must never be the reason why an agent ends."""

from __future__ import annotations

from agent.warm_up import warm_up


def test_it_may_be_called_again() -> None:
    warm_up()
    warm_up()
