from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.node.facts import cgroup_version
from agent.node.fitness import UnfitHostError, check_host, read_swaps, unfitness

SWAPS = """Filename				Type		Size		Used		Priority
/dev/sda2                               partition	999420		0		-2
/swap\\040file                           file		1048572		0		-3
"""


@dataclass
class Settings:
    fail_cgroup_v1: bool = True
    fail_swap_on: bool = True


@pytest.mark.parametrize(
    ("settings", "version", "swaps", "words"),
    [
        (Settings(), 1, (), ("cgroup v1", "failCgroupV1: false", "--fail-cgroupv1=false")),
        (Settings(), 2, ("/dev/sda2",), ("/dev/sda2", "swapoff -a", "failSwapOn: false")),
        (Settings(fail_cgroup_v1=False), 1, ("/dev/sda2",), ("/dev/sda2",)),
        (Settings(fail_swap_on=False), 1, ("/dev/sda2",), ("cgroup v1",)),
    ],
)
def test_what_is_refused_and_how_to_go_on(
    settings: Settings, version: int, swaps: tuple[str, ...], words: tuple[str, ...]
) -> None:
    problem = unfitness(settings, version, swaps)
    assert problem is not None
    assert problem.startswith("cannot run pods: ")
    assert all(word in problem for word in words)


@pytest.mark.parametrize(
    ("settings", "version", "swaps"),
    [
        (Settings(), 2, ()),
        (Settings(fail_cgroup_v1=False), 1, ()),
        (Settings(fail_swap_on=False), 2, ("/dev/sda2",)),
        (Settings(fail_cgroup_v1=False, fail_swap_on=False), 1, ("/dev/sda2",)),
    ],
)
def test_what_is_fit(settings: Settings, version: int, swaps: tuple[str, ...]) -> None:
    assert unfitness(settings, version, swaps) is None


def test_the_swaps_of_a_host(tmp_path: Path) -> None:
    path = tmp_path / "swaps"
    path.write_text(SWAPS)
    assert read_swaps(str(path)) == ("/dev/sda2", "/swap\\040file")
    path.write_text(SWAPS.partition("\n")[0] + "\n")
    assert read_swaps(str(path)) == ()
    assert read_swaps(str(tmp_path / "none")) == (), "a kernel without swap"


def test_this_host_is_judged_as_it_is() -> None:
    check_host(Settings(fail_cgroup_v1=False, fail_swap_on=False))
    if cgroup_version() == 1:
        with pytest.raises(UnfitHostError, match="cgroup v1"):
            check_host(Settings(fail_swap_on=False))
    else:
        check_host(Settings(fail_swap_on=False))
