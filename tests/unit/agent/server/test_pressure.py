"""How long the tasks of a node have waited, from the files of cgroup v2 to /stats/summary."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.cgroups.hierarchy import controller_places, read_mountinfo
from agent.server.node_api.node_use import read_node_use
from agent.server.node_api.pressure import NodePressure, read_node_pressure
from agent.server.node_api.storage_use import StorageUse
from agent.server.node_api.summary import summary

SOME = "some avg10=1.50 avg60=0.25 avg300=0.05 total=123456\n"
FULL = "full avg10=0.00 avg60=0.10 avg300=0.01 total=789\n"
NONE = {"total": 0, "avg10": 0.0, "avg60": 0.0, "avg300": 0.0}
WAITED = {"total": 123456, "avg10": 1.5, "avg60": 0.25, "avg300": 0.05}
STALLED = {"total": 789, "avg10": 0.0, "avg60": 0.1, "avg300": 0.01}


def test_how_long_a_node_of_cgroup_v2_has_waited(tmp_path: Path) -> None:
    files = {"cgroup.controllers": "", "cpu.pressure": SOME, "memory.pressure": SOME + FULL, "io.pressure": SOME + FULL}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    node = replace(read_node_use(tmp_path), pressure=read_node_pressure(str(tmp_path)))
    told = summary("node-1", node, None, (), {}, StorageUse(2.0))["node"]
    assert told["cpu"]["psi"] == {"full": NONE, "some": WAITED}  # older kernels have no full of the processor
    assert told["memory"]["psi"] == {"full": STALLED, "some": WAITED}
    assert told["io"] == {"time": told["cpu"]["time"], "psi": {"full": STALLED, "some": WAITED}}
    brief = summary("node-1", node, None, (), {})["node"]
    assert "io" not in brief
    assert brief["cpu"] == told["cpu"]


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "cpu.pressure").write_text(SOME)
    assert read_node_pressure(str(tmp_path)) == NodePressure()  # v1, or hybrid
    (tmp_path / "cgroup.controllers").touch()
    found = read_node_pressure(str(tmp_path))
    assert (found.memory, found.io) == (None, None)
    told = summary("node-1", replace(read_node_use(tmp_path), pressure=found), None, (), {}, StorageUse(2.0))["node"]
    assert told["cpu"]["psi"]["some"] == WAITED
    assert "psi" not in told["memory"]
    assert "io" not in told


def test_this_kernels_own_pressure() -> None:
    place = controller_places(read_mountinfo()).get("")
    if place is None or not Path(place, "cpu.pressure").exists():
        pytest.skip("no cgroup v2 with PSI here")
    found = read_node_pressure(place)
    assert found.cpu is not None
    assert found.cpu.Some is not None
    assert found.cpu.Some.Total > 0
