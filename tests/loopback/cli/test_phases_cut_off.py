"""The phases of a control plane, killed between their changes: the next run goes on, and nothing is made anew that was
good.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.cluster import all_states
from tests.loopback.cli.dying import dying_command
from tests.loopback.cli.test_cluster import opened, options, phase
from tests.unit.cli.conftest import Node

# Each moment makes all keys anew, and its neighbours differ in one file. LEAST is how many are tried.
STRIDE, LEAST = 5, 10


@pytest.fixture
def node() -> Iterator[Node]:
    """In memory: each moment writes everything, and each file is synced."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="longshore-phases-") as base:
        made = Node(Path(base))
        made.manifests.mkdir()
        made.options = (f"--manifest-dir={made.manifests}",)
        yield made


def _run(node: Node, *words: str) -> None:
    found = phase(node, *words)
    assert found.exit_code == 0, found.output


def _tree(node: Node) -> dict[str, bytes]:
    places = (node.base / "kubernetes", node.manifests)
    return {str(path): path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}


def _moments(node: Node, *words: str, check: Callable[[dict[str, bytes]], None]) -> int:
    """Check after a death at each; how many there were. The files are as they were before each."""
    kept = node.base / "kept"
    places = [place for place in (node.base / "kubernetes", node.manifests) if place.exists()]
    for place in places:
        shutil.copytree(place, kept / place.name)
    with dying_command(*node.options, "control-plane", *options(node), *words) as dies:
        for tried, steps in enumerate(range(0, 500, STRIDE)):
            for place in (node.base / "kubernetes", node.manifests, node.base / "etcd"):
                shutil.rmtree(place, ignore_errors=True)
            node.manifests.mkdir()
            for place in places:
                shutil.copytree(kept / place.name, place, dirs_exist_ok=True)
            if not dies(steps):
                return tried
            check(_tree(node))
    raise AssertionError("it never came to its end")


def _is_whole(node: Node) -> None:
    assert [state for state in all_states(opened(node)) if state.problem] == []
    assert not list(node.base.rglob(".*.tmp")), "a file that is half written is left"
    made = opened(node).files.record.made
    assert [path for path in _tree(node) if Path(path) not in made and not path.endswith("longshore.json")] == []


def test_what_up_makes_goes_on_where_it_was_cut_off(node: Node) -> None:
    moments = 0
    for name in ("certs", "kubeconfigs", "manifests"):

        def goes_on(before: dict[str, bytes], name: str = name) -> None:
            _run(node, name)
            found = _tree(node)
            changed = [path for path, data in before.items() if found.get(path) not in (data, None)]
            assert [path for path in changed if not path.endswith("longshore.json")] == [], "made anew"
            _run(node, "certs")
            _run(node, "kubeconfigs")
            _is_whole(node)

        moments += _moments(node, name, check=goes_on)
        shutil.rmtree(node.base / "kept")
    assert moments > 2 * LEAST


def test_a_renewal_that_was_cut_off_leaves_no_certificate_beside_anothers_key(node: Node) -> None:
    for name in ("certs", "kubeconfigs", "manifests"):
        _run(node, name)
    before = _tree(node)

    def is_good(found: dict[str, bytes]) -> None:
        assert [state for state in all_states(opened(node)) if state.problem] == []
        keys = {path for path in before if path.endswith((".key", ".pub"))}
        assert {path: found[path] for path in keys} == {path: before[path] for path in keys}
        _run(node, "certs", "renew")
        _is_whole(node)
        after = _tree(node)
        renewed = {path for path in before if path.endswith((".crt", ".conf")) and not path.endswith("ca.crt")}
        assert [path for path in renewed if after[path] == before[path]] == []

    assert _moments(node, "certs", "renew", check=is_good) > LEAST
