"""/checkpoint, /debug, /statusz and /flagz of the node's API."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import threading
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from agent.server.node_api import checkpoint, debug, profiles
from agent.server.node_api.checkpoint import parse_timeout
from agent.server.node_api.targets import VerbError
from agent.state_dir import StateDir
from cri_client.errors import Unimplemented
from daemonkit.tasks import spawn
from daemonkit.zpages import NotAcceptableError, negotiate
from tests.loopback.agent.server.node_api_lab import ADMIN, ServedApi, served

WHERE = "/checkpoint/default/web/main"


async def post(api: ServedApi, path: str = WHERE, method: str = "POST", body: bytes = b"") -> tuple[int, bytes]:
    async with api.session(ADMIN) as session, session.request(method, path, data=body) as answer:
        return answer.status, await answer.read()


async def get(api: ServedApi, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, bytes]:
    async with api.session(ADMIN) as session, session.get(path, headers=headers) as answer:
        return answer, await answer.read()


async def test_a_checkpoint_is_a_file_whose_name_says_of_what_and_when(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api:
        status, body = await post(api, f"{WHERE}?timeout=9&timeout=7")
        (location,) = json.loads(body)["items"]
        assert status == 200
        assert re.fullmatch(r"checkpoint-web_default-main-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d\.tar",
                            Path(location).name.replace("Z.", "+00:00."))  # fmt: skip
        assert Path(location).parent == tmp_path / "checkpoints"
        assert (tmp_path / "checkpoints").stat().st_mode & 0o777 == 0o700
        assert os.stat(location).st_mode & 0o777 == 0o600
        name, run, part, timeout_s = api.runtime.calls[-1]
        assert (name, run, timeout_s, Path(part).parent) == ("checkpoint", "c1", 7, tmp_path / "checkpoints")
        assert Path(part).name.startswith(".checkpoint-web_default-main-")
        assert [str(one) for one in (tmp_path / "checkpoints").iterdir()] == [location]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/checkpoint/default/no/main", 404, "pod does not exist"),
        ("/checkpoint/default/web/no", 404, "container no does not exist"),
        (f"{WHERE}?timeout=soon", 404, "cannot parse value of timeout parameter"),
        (f"{WHERE}?timeout=-1", 500, "requires the timeout value to be > 0"),
        ("/checkpoint/default/web/waits", 500, "checkpointing of default/web/waits failed (container not found"),
        ("/checkpoint/default/web", 404, "404 page not found"),
    ],
)
async def test_a_checkpoint_that_cannot_be(tmp_path: Path, path: str, status: int, text: str) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api:
        found, body = await post(api, path)
        assert (found, text in body.decode()) == (status, True), body
        assert api.runtime.calls == []
        assert (await post(api, WHERE, "GET"))[0] == 405


async def test_what_failed_or_was_left_leaves_no_file(tmp_path: Path) -> None:
    async with served(tmp_path, f"--root-dir={tmp_path}") as api, asyncio.TaskGroup() as group:
        api.runtime.checkpoint_fails = Unimplemented("CheckpointContainer", "criu binary not found")
        status, body = await post(api)
        assert status == 500
        assert b"checkpointing of default/web/main failed (" in body
        assert b"criu binary not found" in body
        assert list((tmp_path / "checkpoints").iterdir()) == []
        api.runtime.checkpoint_fails, api.runtime.checkpoint_waits = None, asyncio.Event()
        asked = spawn(group, post(api), name="client")
        async with asyncio.timeout(60):
            while not list((tmp_path / "checkpoints").iterdir()):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
            asked.cancel()
            await api.runtime.checkpoint_went_on.wait()
            while list((tmp_path / "checkpoints").iterdir()):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)


async def test_cve_2025_0426_checkpoints_are_few_at_once_and_none_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "_now", lambda: "2026-01-01T00:00:00Z")  # all of them in one second
    async with served(tmp_path, f"--root-dir={tmp_path}") as api, asyncio.TaskGroup() as group:
        api.runtime.checkpoint_waits = asyncio.Event()
        asked = [spawn(group, post(api), name=f"client {one}") for one in range(checkpoint.MAX_CHECKPOINTS)]
        async with asyncio.timeout(20):
            while len(api.runtime.calls) < len(asked):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
            status, body = await post(api)
        assert (status, len(api.runtime.calls)) == (429, len(asked)), body
        api.runtime.checkpoint_waits.set()
        assert sorted([(await one)[0] for one in asked]) == [200, 500, 500, 500]
        (location,) = (tmp_path / "checkpoints").iterdir()
        location.unlink()
        assert (await post(api, f"{WHERE}?timeout=9999999"))[0] == 200
        assert api.runtime.calls[-1][3] == 24 * 3600


def test_what_a_killed_agent_left_of_one_goes_at_the_next_start(tmp_path: Path) -> None:
    half, whole = (tmp_path / "checkpoints" / name for name in (".checkpoint-x.tar.1a2b3c4d.tmp", "checkpoint-x.tar"))
    half.parent.mkdir()
    for one in (half, whole):
        one.write_bytes(b"tar")
    state = StateDir(tmp_path)
    state.open()
    state.close()
    assert (half.exists(), whole.exists()) == (False, True)


async def test_without_their_feature_gates_there_are_no_such_paths(tmp_path: Path) -> None:
    gates = "ContainerCheckpoint=false,ComponentFlagz=false,ComponentStatusz=false"
    async with served(tmp_path, f"--feature-gates={gates}") as api:
        for path in ("/statusz", "/flagz"):
            assert (await get(api, path))[0].status == 404
        assert (await post(api))[0] == 404


def test_the_last_timeout_counts_and_must_be_a_number_of_64_bits() -> None:
    assert parse_timeout([]) == 0
    assert parse_timeout(["x", "+8"]) == 8
    for wrong in ("", "1.5", "9223372036854775808", "\u0663", "--1", "+-5", "1 "):
        with pytest.raises(VerbError):
            parse_timeout([wrong])


async def test_statusz_and_flagz_for_people_and_for_programs(tmp_path: Path) -> None:
    async with served(tmp_path, "--max-pods=7", "--node-labels=b=2,a=1") as api:
        answer, body = await get(api, "/statusz")
        assert answer.content_type == "text/plain"
        assert re.search(rb"Up: \d+ hr \d\d min \d\d sec\n", body)
        assert b"Paths: /attach /checkpoint /configz /containerLogs /debug " in body
        kind = "application/json;v=v1beta1;g=config.k8s.io;as="
        answer, body = await get(api, "/statusz", Accept=f"{kind}Statusz")
        found = json.loads(body)
        assert (answer.content_type, found["apiVersion"], found["kind"]) == (
            "application/json", "config.k8s.io/v1beta1", "Statusz",
        )  # fmt: skip
        assert (found["binaryVersion"], found["emulationVersion"]) == ("1.36.3", "1.36")
        answer, body = await get(api, "/flagz", Accept=f"{kind}Flagz".replace("v1beta1", "v1alpha1"))
        flags = json.loads(body)["flags"]
        assert "deprecated" in answer.headers["Warning"]
        assert (flags["max-pods"], flags["node-labels"], flags["rotate-certificates"]) == ("7", "a=1,b=2", "false")
        assert flags["hostname-override"] == "node-1"
        answer, body = await get(api, "/flagz")
        assert b"\nmax-pods=7\n" in body
        answer, body = await get(api, "/flagz", Accept="application/json")
        assert answer.status == 406
        assert api.reviewer.asked[-1][1]["resourceAttributes"]["subresource"] == "configz"


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/*", "text/plain"),
        ("application/json, text/plain;q=0.1", "text/plain"),
        ("text/plain;q=0.1, application/yaml;as=Flagz;g=config.k8s.io;v=v1beta1", "application/yaml"),
        ("text/plain;q=x;q", "text/plain"),
        ("application/json;as=Statusz;g=config.k8s.io;v=v1beta1", ""),
        ("application/json;as=Flagz;g=config.k8s.io;v=v2", ""),
        ("text/plain;as=Flagz", ""),
        ("image/png", ""),
    ],
)
def test_what_is_accepted(accept: str, media: str) -> None:
    if media:
        assert negotiate(accept, "Flagz")[0] == media
    else:
        with pytest.raises(NotAcceptableError):
            negotiate(accept, "Flagz")


def decoded(body: bytes) -> tuple[set[str], Counter[str]]:
    """All the words of a profile, and the sum of the last values by function, on whatever line it was."""
    profile = profiles._profile_class().FromString(gzip.decompress(body))
    words = list(profile.string_table)
    names = {one.id: words[one.name].rpartition(".")[2] for one in profile.function}
    functions = {one.id: names[one.line[0].function_id] for one in profile.location}
    sums: Counter[str] = Counter()
    for one in profile.sample:
        for function in {functions[place] for place in one.location_id}:
            sums[function] += one.value[-1]
    return set(words), sums


async def test_profiles_of_this_process(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        asyncio.current_task().set_name("the one that asks")  # type: ignore[union-attr]
        answer, body = await get(api, "/debug/pprof/goroutine?debug=2")
        assert answer.content_type == "text/plain"
        assert b"task the one that asks\n    " in body
        assert b"thread MainThread\n" in body
        words, _ = decoded((await get(api, "/debug/pprof/goroutine"))[1])
        assert {"goroutine", "count", "task the one that asks"} <= words
        assert b"profile: " in (await get(api, "/debug/pprof/"))[1]
        assert (await get(api, "/debug/pprof/cmdline"))[0].status == 200
        assert (await get(api, "/debug/pprof/heap"))[0].status == 404
        assert (await get(api, "/debug/pprof/profile?seconds=61"))[0].status == 400
        assert (await post(api, "/debug/pprof/profile"))[0] == 405


def test_a_thread_that_works_is_in_the_profile_and_one_that_waits_is_not() -> None:
    stop, ended = threading.Event(), threading.Event()

    def works_hard() -> None:
        while not stop.is_set():
            sum(range(1000))

    def waits_long() -> None:
        stop.wait()

    threads = [threading.Thread(target=one) for one in (works_hard, waits_long)]
    for thread in threads:
        thread.start()
    try:
        _, spent_ns = decoded(profiles.cpu_profile(0.5, ended))
        ended.set()
        _, nothing = decoded(profiles.cpu_profile(60, ended))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert spent_ns["works_hard"] > 10 * spent_ns["waits_long"]
    assert not nothing


async def test_one_profile_at_a_time_and_it_ends_with_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = threading.Event(), threading.Event()

    def sampled(_seconds: float, stop: threading.Event) -> bytes:
        began.set()
        assert stop.wait(60)
        ended.set()
        return b""

    monkeypatch.setattr(debug, "cpu_profile", sampled)
    async with served(tmp_path) as api, asyncio.TaskGroup() as group:
        asked = spawn(group, get(api, "/debug/pprof/profile?seconds=50"), name="client")
        await asyncio.to_thread(began.wait, 20)
        assert (await get(api, "/debug/pprof/profile"))[0].status == 429
        asked.cancel()
        assert await asyncio.to_thread(ended.wait, 20)


async def test_verbosity_is_set_while_the_agent_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[int] = []
    monkeypatch.setattr(debug, "setup_logging", said.append)
    async with served(tmp_path) as api:
        answer = await post(api, "/debug/flags/v", "PUT", b"4")
        assert answer == (200, b"successfully set klog.logging.verbosity to 4")
        for wrong in (b"", b"-1", b"x", b"\xff", b"9" * 40):
            assert (await post(api, "/debug/flags/v", "PUT", wrong))[0] == 400
        assert (await post(api, "/debug/flags/v", "GET"))[0] == 406
        assert (await get(api, "/debug/flags"))[0].status == 404
    assert said == [4]


async def test_handlers_that_are_off(tmp_path: Path) -> None:
    async with served(tmp_path, enableProfilingHandler=False, enableDebugFlagsHandler=False) as api:
        assert await post(api, "/debug/pprof", "GET") == (405, b"profiling endpoint is disabled.\n")
        assert await post(api, "/debug/flags/v", "PUT", b"4") == (405, b"flags endpoint is disabled.\n")
    async with served(tmp_path, enableDebuggingHandlers=False) as api:
        assert await post(api, "/debug/pprof/profile", "GET") == (405, b"Debug endpoints are disabled.\n")
        for path in ("/debug/flags/v", "/statusz", "/flagz", "/configz", "/debug"):
            assert (await get(api, path))[0].status == 404, path
        assert (await post(api))[0] == 404
