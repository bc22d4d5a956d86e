"""Cases of tests/cases/services that say what mode ipvs makes of them: servers, addresses, entries of ipsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.ipvs.model import IpvsSettings, State
from proxy.ipvs.render import Renderer, assemble
from proxy.routes import TrafficSettings
from tests.unit.proxy.test_services_cases import CASES, resolved

GOLDEN = [path for path in CASES if "\nipvs:" in path.read_text()]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case: dict[str, Any] = yaml.safe_load(path.read_text())
    _, table = resolved(case)
    addresses = case.get("node", {}).get("addresses", [])
    rendered = Renderer(TrafficSettings(), IpvsSettings(), (4, 6)).render(table.routes, addresses)
    assert shown(assemble(rendered, (4, 6))) == case["ipvs"]


def shown(state: State) -> dict[str, Any]:
    """Empty sets left out; real servers as `ip:port weight`."""
    return {
        "servers": {
            str(key): [f"{target.ip} {target.port} weight {weight}" for target, weight in server.weights.items()]
            for key, server in sorted(state.servers.items())
        },
        "addresses": sorted(state.vips),
        "sets": {name: sorted(entries) for name, entries in sorted(state.sets.items()) if entries},
    }


def test_there_are_cases() -> None:
    assert len(GOLDEN) >= 3
