"""Which files of the directory count."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from daemonkit.watch_dir import DirectorySnapshot, FileProblem
from proxy.last_good import LastGood
from proxy.sources import directory
from proxy.sources.directory import (
    DirectoryState,
    ManifestFile,
    merge_files,
    parse_file,
    remembered,
    unreadable,
    watch_manifests,
    winners_among,
    worth_remembering,
)

GOOD = b"{apiVersion: v1, kind: Service, metadata: {name: %s}, spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}}"


def merged(state: DirectoryState, **files: bytes | FileProblem) -> DirectoryState:
    return merge_files(
        state, {name: parse_file(name, content, state.files.get(name)) for name, content in files.items()}
    )


def test_an_unreadable_file_keeps_its_last_good_version() -> None:
    state = merged(DirectoryState(), a=GOOD % b"a")
    state = merged(state, a=FileProblem("Permission denied"))
    assert [service.name for service in state.services] == ["a"]
    ((error, last_good),) = state.errors
    assert (str(error), last_good) == ("cannot read a: Permission denied", True)


def test_a_file_that_never_was_good_gives_nothing_and_a_removed_one_goes() -> None:
    state = merged(DirectoryState(), a=b"nonsense", b=GOOD % b"b")
    assert [service.name for service in state.services] == ["b"]
    assert state.errors[0][1] is False
    assert merged(state).services == ()


def test_an_edit_that_changes_nothing_keeps_the_object() -> None:
    before = merged(DirectoryState(), a=GOOD % b"a")
    after = merged(before, a=GOOD % b"a" + b"  # a comment")
    assert after.services[0] is before.services[0]


def test_the_second_file_takes_over_when_the_first_goes() -> None:
    state = merged(DirectoryState(), b=GOOD % b"x")
    state = merged(state, a=GOOD % b"x", b=GOOD % b"x")
    assert [service.source for service in state.services] == ["b"]
    assert [error.path for error, _ in state.errors] == ["a"]
    state = merged(state, a=GOOD % b"x")
    assert [service.source for service in state.services] == ["a"]
    assert state.errors == ()


def test_a_missing_directory_takes_nothing_with_it() -> None:
    state = merged(DirectoryState(), a=GOOD % b"a")
    gone = unreadable(state, DirectorySnapshot(Path("/x"), missing=True, error=None, files={}))
    assert gone.services == state.services
    assert gone.problem == "cannot read /x: directory does not exist; the last known services stay"
    denied = unreadable(state, DirectorySnapshot(Path("/x"), missing=False, error="Permission denied", files={}))
    assert "Permission denied" in denied.problem


@pytest.mark.parametrize("status", ["x", "3", "true", "[1]"])
def test_a_status_of_any_shape_costs_only_its_own_file(status: str) -> None:
    odd = (GOOD % b"odd").replace(b"spec:", f"status: {{loadBalancer: {status}}}, spec:".encode())
    state = merged(DirectoryState(), a=GOOD % b"a", odd=odd)
    assert [service.name for service in state.services] == ["a"]
    ((error, _),) = state.errors
    assert "status.loadBalancer: must be a mapping" in str(error)


def test_a_mistake_of_ours_costs_only_the_file_that_meets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = merged(DirectoryState(), a=GOOD % b"a", b=GOOD % b"b")

    def fail(content: bytes, path: str) -> object:
        raise KeyError(path)

    monkeypatch.setattr(directory, "parse_manifest", fail)
    state = merged(before, a=GOOD % b"other", b=GOOD % b"b")
    assert [service.name for service in state.services] == ["a", "b"]
    assert [(error.path, last_good) for error, last_good in state.errors] == [("a", True)]


def test_a_file_that_broke_yields_to_a_good_one_with_its_object() -> None:
    state = merged(DirectoryState(), a=GOOD % b"x")
    state = merged(state, a=b"a: [", b=(GOOD % b"x").replace(b"10.96.0.10", b"10.96.0.11"))
    assert [(service.source, service.cluster_ips) for service in state.services] == [("b", ("10.96.0.11",))]
    ((error, last_good),) = state.errors
    assert (error.path, "defined in" in str(error), last_good) == ("a", False, False)
    assert state.last_good == {}


def test_the_last_good_version_of_a_broken_file_outlives_the_proxy(tmp_path: Path) -> None:
    path = str(tmp_path / "a.yaml")
    state = merge_files(DirectoryState(), {"a.yaml": parse_file(path, GOOD % b"a", None)})
    state = merge_files(state, {"a.yaml": parse_file(path, b"a: [", state.files["a.yaml"])})
    kept = LastGood(tmp_path / "kept.json")
    kept.save(state.last_good)

    before = remembered(tmp_path, LastGood(tmp_path / "kept.json").load())
    again = merge_files(before, {"a.yaml": parse_file(path, b"a: [", before.files["a.yaml"])})
    assert again.services == state.services
    assert [last_good for _, last_good in again.errors] == [True]
    assert again.last_good == state.last_good
    (tmp_path / "kept.json").write_text("{")
    assert LastGood(tmp_path / "kept.json").load() == {}


@pytest.mark.parametrize("wants", [b"b", b"a"], ids=["one object in two files", "one address, two objects"])
def test_who_won_a_clash_wins_again_after_a_restart(tmp_path: Path, wants: bytes) -> None:
    def parsed(state: DirectoryState, *names: str) -> DirectoryState:
        texts = {"a.yaml": GOOD % wants, "b.yaml": GOOD % b"b"}
        files = {name: parse_file(str(tmp_path / name), texts[name], state.files.get(name)) for name in names}
        return merge_files(state, files)

    state = parsed(parsed(DirectoryState(), "b.yaml"), "a.yaml", "b.yaml")
    first = state.services[0]
    assert first.source.endswith("b.yaml")
    kept = LastGood(tmp_path / "kept.json")
    kept.save(worth_remembering(state, winners_among(state.services)))
    again = parsed(remembered(tmp_path, LastGood(tmp_path / "kept.json").load()), "a.yaml", "b.yaml")
    assert again.services[0] == first
    assert [str(error) for error, _ in again.errors] == [str(error) for error, _ in state.errors]
    assert parsed(DirectoryState(), "a.yaml", "b.yaml").services[0].source.endswith("a.yaml"), "or the name decided"
    alone = parsed(again, "b.yaml")
    assert worth_remembering(alone, winners_among(alone.services)) == {}, "nobody else wants it any more"


async def test_files_on_disk_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(GOOD % b"a")
    (tmp_path / "ignored.bak").write_bytes(GOOD % b"b")
    states = watch_manifests(tmp_path)
    first = await anext(states)
    assert [service.name for service in first.services] == ["a"]
    await asyncio.to_thread((tmp_path / "c.json").write_bytes, GOOD % b"c")
    second = await anext(states)
    assert [service.name for service in second.services] == ["a", "c"]
    assert second.services[0] is first.services[0]
    await states.aclose()  # type: ignore[attr-defined] # an async generator behind its AsyncIterator type


def test_a_change_among_ten_thousand_files_is_merged_by_looking_at_each_only_once() -> None:
    class CountedName(str):
        __slots__ = ()
        looked_at = 0

        def __hash__(self) -> int:
            CountedName.looked_at += 1
            return super().__hash__()

    one = parse_file("x", GOOD % b"x", None)
    files: dict[str, ManifestFile] = {CountedName(f"{number}.yaml"): one for number in range(200)}
    state = merge_files(DirectoryState(), files)
    CountedName.looked_at = 0
    files[CountedName("new.yaml")] = one
    merge_files(state, files)
    assert CountedName.looked_at < 20 * len(files)
