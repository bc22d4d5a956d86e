"""Hooks: preStop is read back from the container, run within the grace period, and never in the way of the stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from lightkube.models import core_v1

from agent.container_spec.labels import container_annotations
from agent.pods.hook import Hook, SleepAsk, parse_pre_stop
from agent.pods.observe import PodObservation, SandboxObservation
from agent.pods.run_hook import HookRunner
from agent.pods.target import address_for_hook
from agent.probes.exec_probe import ExecRuntime
from agent.probes.machine import Outcome, ProbeResult
from agent.probes.plan import ExecAsk, HttpAsk, Unaskable
from cri_client.errors import CriError, Unavailable
from cri_client.types import ExecSyncResponse


def written(handler: core_v1.LifecycleHandler) -> Hook | None:
    """What an agent reads back that knows nothing but the container."""
    container = core_v1.Container(
        name="main",
        ports=[core_v1.ContainerPort(containerPort=8080, name="http")],
        lifecycle=core_v1.Lifecycle(preStop=handler),
    )
    return parse_pre_stop(container_annotations(core_v1.Pod(), container, 0))


def test_each_handler_comes_back_from_the_annotations() -> None:
    assert written(core_v1.LifecycleHandler(exec=core_v1.ExecAction(command=["sh", "-c", "x"]))) == ExecAsk(
        ("sh", "-c", "x")
    )
    assert written(core_v1.LifecycleHandler(sleep=core_v1.SleepAction(seconds=3))) == SleepAsk(3.0)
    get = core_v1.HTTPGetAction(port="http", path="/bye", scheme="HTTPS", host="example.org")
    get.httpHeaders = [core_v1.HTTPHeader(name="X", value="1")]
    assert written(core_v1.LifecycleHandler(httpGet=get)) == HttpAsk(
        "https", "example.org", 8080, "/bye", (("X", "1"), ("User-Agent", "kube-lifecycle/1.36"))
    )


def test_no_hook_and_a_broken_one() -> None:
    assert parse_pre_stop({}) is None
    broken = parse_pre_stop({"io.kubernetes.container.preStopHandler": "{"})
    assert isinstance(broken, Unaskable)
    assert "io.kubernetes.container.preStopHandler" in broken.message
    missing = written(core_v1.LifecycleHandler(httpGet=core_v1.HTTPGetAction(port="other")))
    assert isinstance(missing, Unaskable)


class _Runtime:
    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.asked: list[tuple[str, tuple[str, ...], int]] = []

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_s: int = 0) -> ExecSyncResponse:
        self.asked.append((container_id, tuple(cmd), timeout_s))
        if self.fails:
            raise Unavailable("ExecSync", "gone")
        return ExecSyncResponse(stdout=b"", stderr=b"", exit_code=0)


async def no_http(_ask: HttpAsk, _pod_ip: str, _timeout_s: float | None) -> ProbeResult:
    raise AssertionError("nothing to get")


async def test_a_command_gets_the_grace_period_as_its_time() -> None:
    runtime = _Runtime()
    await HookRunner(runtime, no_http).run_pre_stop(ExecAsk(("true",)), "d/web/main", "c1", "", 4.2)
    assert runtime.asked == [("c1", ("true",), 5)]


@pytest.mark.looptime
async def test_a_hook_that_takes_too_long_is_given_up_at_the_end_of_the_grace_period(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await HookRunner(_Runtime(), no_http).run_pre_stop(SleepAsk(3600), "d/web/main", "c1", "", 10)
    assert "d/web/main" in caplog.text
    assert "10 s" in caplog.text


@pytest.mark.parametrize("hook", [ExecAsk(("true",)), Unaskable("no such port")])
async def test_a_hook_that_cannot_run_is_said_and_keeps_nothing(hook: Hook, caplog: pytest.LogCaptureFixture) -> None:
    await HookRunner(_Runtime(fails=True), no_http).run_pre_stop(hook, "d/web/main", "c1", "", 10)
    assert "cannot run the preStop hook of d/web/main" in caplog.text


async def test_a_request_goes_to_the_pod() -> None:
    asked: list[tuple[str, float | None]] = []

    async def ask(_ask: HttpAsk, pod_ip: str, timeout_s: float | None) -> ProbeResult:
        asked.append((pod_ip, timeout_s))
        return ProbeResult(Outcome.SUCCESS)

    await HookRunner(_Runtime(), ask).run_pre_stop(HttpAsk("http", "", 80, "/"), "d/web/main", "c1", "10.0.0.9", 7)
    assert asked == [("10.0.0.9", 7)]


@pytest.mark.parametrize(
    ("sandboxes", "address"),
    [
        ([SandboxObservation("s1", 0, True, 0.0, ("10.0.0.9",))], "10.0.0.9"),
        ([SandboxObservation("s1", 0, False, 0.0, ("10.0.0.9",))], "10.0.0.9"),
        ([SandboxObservation("s1", 0, True, 0.0)], "192.0.2.1"),
        ([SandboxObservation("s1", 0, False, 0.0)], ""),
        ([], ""),
    ],
    ids=["pod network", "down, its address known", "host network", "down, its address lost", "gone"],
)
def test_a_request_never_goes_to_the_node_instead_of_the_pod(sandboxes: list[SandboxObservation], address: str) -> None:
    seen = PodObservation("uid", sandboxes=tuple(sandboxes))
    assert address_for_hook(seen, "s1", ("192.0.2.1",)) == address


async def test_a_request_to_nowhere_is_not_made(caplog: pytest.LogCaptureFixture) -> None:
    await HookRunner(_Runtime(), no_http).run_pre_stop(HttpAsk("http", "", 80, "/"), "d/web/main", "c1", "", 7)
    assert "its pod has no address any more" in caplog.text


async def post_start(hook: Hook, runtime: ExecRuntime, answer: ProbeResult | None = None, ip: str = "10.0.0.9") -> str:
    async def ask(_ask: HttpAsk, _pod_ip: str, timeout_s: float | None) -> ProbeResult:
        assert timeout_s is None, "a postStart hook has all the time it wants"
        return answer or ProbeResult(Outcome.SUCCESS)

    return await HookRunner(runtime, ask).run_post_start(hook, "main", "c1", "web_default(1f)", ip)


SAID = 'Exec lifecycle hook ([sh -c x]) for Container "main" in Pod "web_default(1f)" failed - error:'


class _Shell:
    """ExecSync that says `answer`."""

    def __init__(self, answer: ExecSyncResponse | CriError) -> None:
        self.answer = answer

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_s: int = 0) -> ExecSyncResponse:
        assert (container_id, timeout_s) == ("c1", 0)
        if isinstance(self.answer, CriError):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ExecSyncResponse(b"fine", b"", 0), ""),
        (
            ExecSyncResponse(b"out\n", b"err", 3),
            f"{SAID} command 'sh -c x' exited with 3: err, message: \"out\\nerr\"",
        ),
        (
            CriError("ExecSync", "no such file"),
            f'{SAID} no such file, message: ""',
        ),
        (Unavailable("ExecSync", "the runtime restarts"), ""),
    ],
    ids=["done", "failed", "not run", "the runtime is away"],
)
async def test_what_becomes_of_a_post_start_command(answer: ExecSyncResponse | CriError, message: str) -> None:
    assert await post_start(ExecAsk(("sh", "-c", "x")), _Shell(answer)) == message


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (ProbeResult(Outcome.SUCCESS), ""),
        (ProbeResult(Outcome.FAILURE, "HTTP probe failed with statuscode: 500", answered=True), ""),
        (ProbeResult(Outcome.FAILURE, "connect: connection refused"), "connect: connection refused"),
    ],
    ids=["answered", "answered with an error", "refused"],
)
async def test_any_answer_to_a_post_start_request_will_do(answer: ProbeResult, error: str) -> None:
    message = await post_start(HttpAsk("http", "", 80, "/up"), _Runtime(), answer)
    whole = f'HTTP lifecycle hook (/up) for Container "main" in Pod "web_default(1f)" failed - error: {error}'
    assert message == (whole if error else "")


async def test_a_post_start_request_to_nowhere_and_one_that_cannot_be_asked() -> None:
    assert "no address" in await post_start(HttpAsk("http", "", 80, "/up"), _Runtime(), ip="")
    assert "no such port" in await post_start(Unaskable("no such port"), _Runtime())


@pytest.mark.looptime
async def test_a_post_start_hook_may_only_wait() -> None:
    began_s = asyncio.get_running_loop().time()
    assert await post_start(SleepAsk(3600), _Runtime()) == ""
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(3600)


@pytest.mark.parametrize("plainly", [Outcome.SUCCESS, Outcome.FAILURE])
async def test_a_hook_over_tls_that_meets_plain_http_asks_again_without_the_authorization(plainly: Outcome) -> None:
    asked: list[tuple[str, list[str]]] = []

    async def ask(ask: HttpAsk, _pod_ip: str, _timeout_s: float | None) -> ProbeResult:
        asked.append((ask.scheme, [name for name, _ in ask.headers]))
        if ask.scheme == "https":
            return ProbeResult(Outcome.FAILURE, "server gave HTTP response to HTTPS client", not_tls=True)
        return ProbeResult(plainly, "refused")

    hook = HttpAsk("https", "", 80, "/", (("authorization", "Basic x"), ("X", "y")))
    failure = await HookRunner(_Runtime(), ask).run_post_start(hook, "main", "c1", "web_default(1f)", "10.0.0.9")
    assert asked == [("https", ["authorization", "X"]), ("http", ["X"])]
    assert ("server gave HTTP response" in failure) is (plainly is Outcome.FAILURE)
