"""The agent's own cgroup and that of all pods, as `systemContainers` tells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.server.node_api.node_use import read_node_use
from agent.server.node_api.summary import summary
from agent.server.node_api.system_use import SystemReader, SystemUse, nano_cores, own_cgroup
from agent.server.node_api.usage import Amounts
from tests.unit.agent.server.test_cgroup_use import Settings, Tree

V1_TEXT = "12:pids:/other\n4:memory:/system.slice/agent.service\n3:cpu,cpuacct:/system.slice/agent.service\n0::/\n"
V2_TEXT = "0::/system.slice/agent.service\n"


@pytest.fixture(params=[1, 2])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, request.param)


def test_the_agents_cgroup_is_the_one_it_was_started_in() -> None:
    assert own_cgroup(V1_TEXT, 1) == own_cgroup(V2_TEXT, 2) == "/system.slice/agent.service"
    assert own_cgroup(V1_TEXT.replace("memory:/system.slice", "memory:/user.slice"), 1) == ""


def test_all_pods_are_told_with_what_is_left_of_their_limit(tree: Tree, tmp_path: Path) -> None:
    tree.make("/kubepods")
    (pods,) = SystemReader(tree.version, Settings(), 5.0).read(tree.reader)
    assert pods.name == "pods"
    (told,) = summary("n", read_node_use(tmp_path), None, (), {}, system=[pods])["node"]["systemContainers"]
    assert told.keys() == {"name", "cpu", "memory", "swap"}
    assert (told["name"], told["cpu"]["usageCoreNanoSeconds"]) == ("pods", 1_500_000_000)
    assert (told["memory"]["workingSetBytes"], told["memory"]["availableBytes"]) == (82, 318)


def test_the_agent_has_been_there_since_it_began(tmp_path: Path) -> None:
    agent = SystemUse("kubelet", 5.0, Amounts(9.0, 1.0))
    (told,) = summary("n", read_node_use(tmp_path), None, (), {}, system=[agent])["node"]["systemContainers"]
    assert (told["name"], told["startTime"]) == ("kubelet", "1970-01-01T00:00:05Z")


def test_a_rate_is_over_the_time_between_two_looks() -> None:
    assert nano_cores(Amounts(10.0, 1.0), Amounts(14.0, 3.0)) == 500_000_000
    assert nano_cores(Amounts(10.0, 3.0), Amounts(14.0, 1.0)) == 0, "it was made anew"


def test_what_is_not_there_is_left_out(tree: Tree, tmp_path: Path) -> None:
    assert SystemReader(tree.version, Settings(), 5.0).read(tree.reader) == ()
    assert "systemContainers" not in summary("n", read_node_use(tmp_path), None, (), {})["node"]
