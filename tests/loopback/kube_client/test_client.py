"""Single requests: who is asked, with what, how often, and who is not believed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from daemonkit.tasks import spawn
from kube_client.client import KubeClient
from kube_client.config import ApiConfig, ConfigError
from kube_client.counts import RequestCounts, host_of
from kube_client.errors import StatusError, UnreachableError
from kube_client.rate import TokenBucket
from tests.loopback.kube_client.scripted_server import answer, list_or_watch, serving, stream


async def test_the_token_of_the_file_is_read_again_and_a_missing_one_keeps_the_last(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    async with serving(answer("{}", 200), answer("{}", 401), answer("{}", 401), answer("{}")) as server:
        config = ApiConfig(servers=(server.url,), token="static", token_file=token)
        async with KubeClient(config, "longshore-test", qps=-1) as client:
            await client.get("/x")
            token.unlink()
            with pytest.raises(StatusError, match="answers 401 X; our certificate or token is not accepted"):
                await client.get("/x")
            with pytest.raises(StatusError):
                await client.get("/x")
            token.write_text("two")
            await client.get("/x")
        sent = [request.partition("Authorization: ")[2].split("\r\n")[0] for request in server.requests]
        assert sent == ["Bearer one", "Bearer one", "Bearer one", "Bearer two"]
        assert "User-Agent: longshore-test" in server.requests[0]


async def test_a_token_that_cannot_be_read_at_first_is_named(tmp_path: Path) -> None:
    config = ApiConfig(servers=("http://127.0.0.1:1",), token_file=tmp_path / "token")
    with pytest.raises(ConfigError, match=r"cannot read tokenFile .*/token: No such file"):
        await KubeClient(config, "test").__aenter__()


async def test_what_may_have_been_done_is_not_sent_to_another_server() -> None:
    async with serving(answer("{}")) as second, serving(answer("", 503)) as first:
        config = ApiConfig(servers=(first.url, second.url))
        async with KubeClient(config, "test", qps=-1) as client:
            with pytest.raises(StatusError, match="503"):
                await client.send("POST", "/x", b"{}", "application/json")
            assert second.requests == []
            await client.send("POST", "/x", b"{}", "application/json")  # the next one goes to the other
            assert "Content-Type: application/json" in second.requests[0]
            assert client.server == second.url


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_cannot_reach_etcd_gives_way(status: int) -> None:
    async with serving(answer('{"a":1}')) as second, serving(answer("", status)) as first:
        client = KubeClient(ApiConfig(servers=(first.url, second.url)), "test", qps=-1)
        async with client:
            assert await client.get("/x") == b'{"a":1}'
            assert client.server == second.url


async def test_who_has_no_answer_tells_the_others_whose_watches_would_wait_in_vain() -> None:
    async def mute(_: asyncio.StreamWriter, __: str) -> None:
        await asyncio.sleep(3600)

    async def end_of_watch(client: KubeClient, opened: asyncio.Event) -> str:
        try:
            async with client.stream("/x", {"watch": "true"}) as lines:
                opened.set()
                return (await lines.readline()).decode()
        except UnreachableError as error:
            return str(error)

    silent = list_or_watch(mute, stream(then="stall"))
    async with serving(answer("{}")) as second, serving(silent) as first, asyncio.timeout(30):
        both = ApiConfig(servers=(first.url, second.url))
        watcher = KubeClient(both, "test", qps=-1)
        heartbeat = KubeClient(both, "test", qps=-1, answer_s=0.2, others=(watcher,))
        async with watcher, heartbeat, asyncio.TaskGroup() as group:
            opened = asyncio.Event()
            watch = spawn(group, end_of_watch(watcher, opened), name="watch")
            await opened.wait()
            with pytest.raises(UnreachableError, match="no answer in time"):
                await heartbeat.send("PUT", "/lease", b"{}")
            assert "it does not answer other requests" in await watch
            assert watcher.server == heartbeat.server == second.url


@pytest.mark.parametrize("status", [429, 500])
async def test_a_refusal_is_no_reason_to_go_back_to_a_server_that_was_left(status: int) -> None:
    async with serving(answer("{}")) as left, serving(answer("", status), answer("{}")) as well:
        async with KubeClient(ApiConfig(servers=(left.url, well.url)), "test", qps=-1) as client:
            client.leave(left.url)
            with pytest.raises(StatusError, match=str(status)):
                await client.get("/x")
            await client.get("/x")
        assert (len(left.requests), len(well.requests)) == (0, 2)


async def test_a_watch_that_a_server_answers_after_it_was_left_goes_to_another() -> None:
    asked, answers = asyncio.Event(), asyncio.Event()

    async def late(writer: asyncio.StreamWriter, request: str) -> None:
        asked.set()
        await answers.wait()
        await stream(then="stall")(writer, request)

    async with serving(stream({"a": 1})) as second, serving(late) as first, asyncio.timeout(30):
        client = KubeClient(ApiConfig(servers=(first.url, second.url)), "test", qps=-1)
        async with client, asyncio.TaskGroup() as group:
            opened = spawn(group, _first_line(client), name="watch")
            await asked.wait()
            client.leave(first.url)
            answers.set()
            assert '"a"' in await opened


async def _first_line(client: KubeClient) -> str:
    async with client.stream("/x", {"watch": "true"}) as lines:
        return (await lines.readline()).decode()


async def test_the_watches_of_an_only_server_outlast_a_request_that_it_does_not_answer() -> None:
    async def mute(_: asyncio.StreamWriter, __: str) -> None:
        await asyncio.sleep(3600)

    async with serving(list_or_watch(mute, stream({"a": 1}, {"b": 2}))) as server, asyncio.timeout(30):
        watcher = KubeClient(server.config, "test", qps=-1)
        heartbeat = KubeClient(server.config, "test", qps=-1, answer_s=0.2, others=(watcher,))
        async with watcher, heartbeat, watcher.stream("/x", {"watch": "true"}) as lines:
            with pytest.raises(UnreachableError, match="no answer in time"):
                await heartbeat.send("PUT", "/lease", b"{}")
            assert b"a" in await lines.readline()


async def test_a_server_that_refuses_the_connection_gives_way_at_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, but nobody listens
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        await refused(url)


async def refused(url: str) -> None:
    counts = RequestCounts()
    async with serving(answer('{"a":1}'), answer("", 404)) as second:
        config = ApiConfig(servers=(url, second.url))
        async with KubeClient(config, "test", qps=-1, counts=counts) as client:
            assert await client.send("POST", "/x", b"{}") == b'{"a":1}'
            with pytest.raises(StatusError):
                async with client.stream("/x", {}):
                    pass
        nobody, somebody = host_of(url), host_of(second.url)
        assert counts.answers == {
            ("<error>", "POST", nobody): 1, ("200", "POST", somebody): 1, ("404", "GET", somebody): 1
        }  # fmt: skip
        assert {labels: one.count for labels, one in counts.seconds.items()} == {
            ("POST", nobody): 1, ("POST", somebody): 1
        }  # fmt: skip
        async with KubeClient(ApiConfig(servers=(url,)), "test", qps=-1) as client:
            with pytest.raises(UnreachableError, match=rf"cannot get /x on {url}: .*refused"):
                await client.get("/x")


async def test_an_answer_that_asks_to_wait() -> None:
    script = answer("", 429, Retry_After="7")
    async with serving(script) as server, KubeClient(server.config, "test", qps=-1) as client:
        with pytest.raises(StatusError) as caught:
            await client.get("/x")
        assert (caught.value.status, caught.value.retry_after_s) == (429, 7.0)


def test_qps_and_burst() -> None:
    bucket = TokenBucket(qps=2.0, burst=3)
    assert [bucket.take(0.0) for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert bucket.take(100.0) == 0.0, "but no more than the burst is saved up"
    assert [bucket.take(100.0) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert [TokenBucket().take(0.0) for _ in range(1)] == [0.0]
    default = TokenBucket(0.0, 0)
    assert [default.take(0.0) for _ in range(11)][-1] == pytest.approx(0.2), "client-go's 5 a second and 10 at once"
    unlimited = TokenBucket(-1.0, 1)
    assert {unlimited.take(0.0) for _ in range(100)} == {0.0}
