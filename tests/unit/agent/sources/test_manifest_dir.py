"""Pictures of a manifest directory: last good versions, clashes, files that come and go; once on a real directory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.container_spec import labels
from agent.sources.manifest_dir import ManifestState, merge_snapshot, remember, watch_manifests
from daemonkit.watch_dir import DirectorySnapshot, FileProblem

DIRECTORY = Path("/m")
BAD = b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containrs: []}\n"


def manifest(name: str, image: str = "web:1") -> bytes:
    return f"""apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers: [{{name: main, image: "{image}"}}]
""".encode()


def picture(previous: ManifestState, files: dict[str, bytes | FileProblem], seen_at: str = "") -> ManifestState:
    return merge_snapshot(previous, DirectorySnapshot(DIRECTORY, False, None, files), "node1", seen_at)


def names(state: ManifestState) -> dict[str, str]:
    return {path: (one.pod.metadata.name or "") if one.pod.metadata else "" for path, one in state.pods.items()}


def image(state: ManifestState, path: str) -> str | None:
    spec = state.pods[path].pod.spec
    return spec.containers[0].image if spec else None


def test_good_files_become_pods_and_bad_ones_errors_without_touching_each_other() -> None:
    problem = FileProblem("Permission denied")
    state = picture(ManifestState(), {"a.yaml": manifest("a"), "b.yaml": BAD, "c.yaml": problem})
    assert names(state) == {"/m/a.yaml": "a-node1"}
    assert list(state.errors) == ["/m/b.yaml", "/m/c.yaml"]
    assert state.errors["/m/b.yaml"].field == "spec.containrs"
    assert state.errors["/m/b.yaml"].line == 4
    assert "Permission denied" in str(state.errors["/m/c.yaml"])


def test_the_last_good_version_stays_while_the_file_is_bad_or_unreadable() -> None:
    first = picture(ManifestState(), {"a.yaml": manifest("a", "web:1")})
    for content in (BAD, FileProblem("Permission denied"), b"", b"\x00" * (2 << 20)):
        second = picture(first, {"a.yaml": content})
        assert second.pods == first.pods
        assert list(second.errors) == ["/m/a.yaml"]
        third = picture(second, {"a.yaml": manifest("a", "web:2")})
        assert image(third, "/m/a.yaml") == "web:2"
        assert not third.errors


def test_a_file_that_is_gone_takes_its_pod_with_it_even_when_it_was_bad() -> None:
    first = picture(ManifestState(), {"a.yaml": manifest("a")})
    assert picture(first, {}) == ManifestState()
    assert picture(picture(first, {"a.yaml": BAD}), {}) == ManifestState()


def test_an_unchanged_file_stays_the_same_object_and_so_does_its_error() -> None:
    files: dict[str, bytes | FileProblem] = {"a.yaml": manifest("a"), "b.yaml": BAD}
    first = picture(ManifestState(), files, "2026-01-01T00:00:00Z")
    second = picture(first, {**files, "c.yaml": manifest("c")}, "2026-01-02T00:00:00Z")
    assert second.pods["/m/a.yaml"] is first.pods["/m/a.yaml"]
    assert second.errors["/m/b.yaml"] is first.errors["/m/b.yaml"]
    metadata = second.pods["/m/a.yaml"].pod.metadata
    assert metadata is not None
    assert (metadata.annotations or {})[labels.CONFIG_SEEN] == "2026-01-01T00:00:00Z"


def test_of_two_files_with_one_pod_name_the_first_runs_and_the_other_is_an_error() -> None:
    state = picture(ManifestState(), {"b.yaml": manifest("web"), "a.yaml": manifest("web", "web:2")})
    assert list(state.pods) == ["/m/a.yaml"]
    error = state.errors["/m/b.yaml"]
    assert "already defined by /m/a.yaml" in str(error)
    assert (error.field, error.line) == ("metadata.name", 3)


def test_the_pod_that_runs_already_wins_over_a_newcomer_whose_file_sorts_first() -> None:
    first = picture(ManifestState(), {"b.yaml": manifest("web")})
    second = picture(first, {"a.yaml": manifest("web"), "b.yaml": manifest("web")})
    assert list(second.pods) == ["/m/b.yaml"]
    assert list(second.errors) == ["/m/a.yaml"]
    third = picture(second, {"a.yaml": manifest("web")})
    assert list(third.pods) == ["/m/a.yaml"]
    assert not third.errors


def test_a_file_that_takes_the_name_of_another_keeps_its_own_last_good_pod() -> None:
    first = picture(ManifestState(), {"a.yaml": manifest("a"), "b.yaml": manifest("b")})
    second = picture(first, {"a.yaml": manifest("a"), "b.yaml": manifest("a")})
    assert names(second) == {"/m/a.yaml": "a-node1", "/m/b.yaml": "b-node1"}
    assert list(second.errors) == ["/m/b.yaml"]


def test_pods_of_one_name_in_two_namespaces_do_not_clash() -> None:
    other = manifest("web").replace(b"{name: web}", b"{name: web, namespace: other}")
    assert len(picture(ManifestState(), {"a.yaml": manifest("web"), "b.yaml": other}).pods) == 2


def test_an_unreadable_directory_changes_nothing_but_says_so() -> None:
    first = picture(ManifestState(), {"a.yaml": manifest("a")})
    second = merge_snapshot(first, DirectorySnapshot(DIRECTORY, False, "Input/output error", {}), "node1")
    assert second.pods == first.pods
    assert "Input/output error" in str(second.errors["/m"])
    assert picture(second, {"a.yaml": manifest("a")}).errors == {}


def test_a_directory_that_is_gone_runs_nothing() -> None:
    first = picture(ManifestState(), {"a.yaml": manifest("a")})
    second = merge_snapshot(first, DirectorySnapshot(DIRECTORY, True, None, {}), "node1")
    assert second.pods == {}
    assert "no such directory" in str(second.errors["/m"])


def test_a_restart_keeps_the_last_good_version_of_a_file_that_is_bad_meanwhile() -> None:
    before = picture(picture(ManifestState(), {"a.yaml": manifest("a")}), {"a.yaml": BAD})
    remembered = remember(dict(before.raw), "node1")
    after = picture(remembered, {"a.yaml": BAD})
    assert names(after) == {"/m/a.yaml": "a-node1"}
    assert list(after.errors) == ["/m/a.yaml"]
    assert picture(remembered, {}).pods == {}


def test_what_cannot_be_remembered_is_an_error_and_no_crash() -> None:
    state = remember({"/m/a.yaml": BAD, "/m/b.yaml": manifest("b")}, "node1")
    assert list(state.pods) == ["/m/b.yaml"]
    assert list(state.errors) == ["/m/a.yaml"]


CONTENTS = st.sampled_from([manifest("a"), manifest("a", "web:2"), manifest("b"), BAD, FileProblem("x")])
FILES = st.dictionaries(st.sampled_from(["a.yaml", "b.yaml", "c.yaml"]), CONTENTS)


@settings(max_examples=25, deadline=None)
@given(st.lists(FILES, max_size=4))
def test_whatever_happened_before_each_name_runs_once_and_the_same_picture_twice_is_stable(
    history: list[dict[str, bytes | FileProblem]],
) -> None:
    state = ManifestState()
    for files in history:
        state = picture(state, files)
        again = picture(state, files)
        assert again == state
        assert len(set(names(state).values())) == len(state.pods)
        assert {path.removeprefix("/m/") for path in state.pods} <= files.keys()
        assert state.raw.keys() == state.pods.keys()
        good = {name for name, content in files.items() if isinstance(content, bytes) and content != BAD}
        assert {f"/m/{name}" for name in good} <= state.pods.keys() | state.errors.keys()


@dataclass
class Settings:
    static_pod_path: Path | None
    file_check_frequency_s: float = 20.0
    node_name: str = "node1"


async def test_a_real_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(manifest("a"))
    (tmp_path / "a.yaml.bak").write_bytes(manifest("backup"))
    (tmp_path / ".hidden.yaml").write_bytes(manifest("hidden"))
    pictures = watch_manifests(Settings(tmp_path))
    try:
        async with asyncio.timeout(30):
            state = await anext(pictures)
            assert names(state) == {str(tmp_path / "a.yaml"): "a-node1"}
            metadata = state.pods[str(tmp_path / "a.yaml")].pod.metadata
            assert metadata is not None
            assert labels.CONFIG_SEEN in (metadata.annotations or {})
            (tmp_path / ".new").write_bytes(manifest("b"))
            (tmp_path / ".new").rename(tmp_path / "b.yml")
            while len(state.pods) < 2:
                state = await anext(pictures)
            (tmp_path / "a.yaml").write_bytes(BAD)
            while not state.errors:
                state = await anext(pictures)
            assert len(state.pods) == 2
            (tmp_path / "a.yaml").unlink()
            while len(state.pods) > 1:
                state = await anext(pictures)
            assert not state.errors
    finally:
        await pictures.aclose()


async def test_without_a_directory_there_is_one_empty_picture() -> None:
    pictures = watch_manifests(Settings(None))
    assert await anext(pictures) == ManifestState()
    await pictures.aclose()
