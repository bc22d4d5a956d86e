"""The loop: gate, rates, retries, repairs, resync, reload.  Virtual time; the backend is a fake at its Protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from proxy.backend import (
    BackendBusyError,
    BackendError,
    BackendUnusableError,
    FamilySync,
    FlowsLook,
    RefusedRoute,
    SyncReport,
)
from proxy.endpoints import PodFacts
from proxy.routes import HealthCheck, NodeFacts, PortName, RoutingTable
from proxy.services import ServiceFacts, ServicePortFacts
from proxy.sources.agent_pods import AgentView
from proxy.sources.api_server import ApiView
from proxy.sources.directory import DirectoryState, ManifestFile
from proxy.sync import Synchronizer
from proxy.sync_status import Changes, SyncLimits
from tests.unit.proxy.facts import piece, pod, service, slice_endpoint

pytestmark = pytest.mark.looptime


class FakeBackend:
    """Remembers what it was told and when; refuses calls that overlap, as two writers of one kernel table would."""

    def __init__(self) -> None:
        self.applied: list[tuple[float, RoutingTable]] = []
        self.failures: list[Exception] = []
        self.intact = True
        self.resyncs = 0
        self.closed = False
        self.refuses: RefusedRoute | None = None
        self.stray_chains = 0
        self._busy = False

    async def apply(self, table: RoutingTable) -> SyncReport:
        assert not self._busy
        assert not self.closed
        self._busy = True
        await asyncio.sleep(0.01)
        self._busy = False
        if self.failures:
            raise self.failures.pop(0)
        self.applied.append((asyncio.get_running_loop().time(), table))
        self.intact = True
        refused = (self.refuses,) if self.refuses else ()
        return SyncReport(self.stray_chains, full=False, duration_s=0.01, refused=refused)

    async def verify(self) -> bool:
        assert not self._busy
        return self.intact

    async def resync(self) -> None:
        self.resyncs += 1

    async def cleanup(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed = True


def directory(*services: ServiceFacts, problem: str = "") -> DirectoryState:
    files = {one.source: ManifestFile(one.source, b"", one, None) for one in services}
    return DirectoryState(files, {}, problem, listed=not problem)


def agent(*pods: PodFacts) -> AgentView:
    return AgentView(pods=pods, connected=True)


LIMITS = SyncLimits(node=NodeFacts("node-a"), sync_period_s=30.0, min_sync_period_s=1.0, has_agent=True)


@contextlib.asynccontextmanager
async def running(backend: FakeBackend, limits: SyncLimits = LIMITS) -> AsyncIterator[Synchronizer]:
    synchronizer = Synchronizer(backend, limits, lambda status: None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(synchronizer.run())
        try:
            yield synchronizer
        finally:
            task.cancel()


async def test_changes_are_counted_and_pending_until_they_are_written() -> None:
    backend = FakeBackend()
    web, other = service(), service("other")
    async with running(backend, replace(LIMITS, has_agent=False)) as sync:
        sync.put_directory(directory(web, other))
        await asyncio.sleep(5)
        assert sync.status.seen == sync.status.written == Changes(services=2)
        backend.failures = [BackendError("cannot write: locked")]
        endpoints = piece(slice_endpoint("10.0.0.1"))
        moved = directory(service("web", "10.96.0.77")).files
        sync.put_directory(DirectoryState({**moved, "web-1.yaml": ManifestFile("web-1.yaml", b"", endpoints, None)}))
        await asyncio.sleep(0.5)
        assert (sync.status.seen, sync.status.written) == (Changes(4, 1), Changes(2, 0)), "one is another, one is gone"
        await asyncio.sleep(5)
        assert sync.status.written == Changes(4, 1)


async def test_nothing_is_written_before_the_directory_and_the_wanted_pods_are_known() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        await asyncio.sleep(100)
        assert list(sync.status.waiting_for) == ["the manifest directory"]
        sync.put_directory(directory(service(selector={"app": "web"})))
        await asyncio.sleep(100)
        assert backend.applied == []
        assert "wanted by 1 services" in sync.status.waiting_for[0]
        sync.put_agent(AgentView(error="no such file"))
        await asyncio.sleep(1)
        assert "no such file" in sync.status.waiting_for[0]
        sync.put_agent(agent(pod("a", "10.0.0.1", {"app": "web"})))
        await asyncio.sleep(1)
        assert not sync.status.waiting_for
        assert backend.applied[0][1].routes[0].endpoints[0].ip == "10.0.0.1"


async def test_services_without_a_selector_wait_for_no_agent() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(0.1)
        assert len(backend.applied) == 1


async def test_a_later_service_with_a_selector_is_held_back_until_the_agent_spoke_and_the_others_go_on() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(5)
        late = service("late", "10.96.0.11", selector={"app": "x"})
        sync.put_directory(directory(late, service(), service("more", "10.96.0.12")))
        await asyncio.sleep(5)
        assert [r.name.service for r in backend.applied[-1][1].routes] == ["more", "web"]
        assert [error.message for error in sync.table.errors] == ["waits for the agent's pods"]
        sync.put_agent(agent())
        await asyncio.sleep(5)
        assert len(backend.applied[-1][1].routes) == 3
        assert sync.table.errors == ()


async def test_the_first_change_is_written_at_once_and_a_burst_together_after_the_minimum_period() -> None:
    backend = FakeBackend()
    loop = asyncio.get_running_loop()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        sync.put_agent(agent())
        await asyncio.sleep(10)
        start_s = loop.time()
        for number in range(1, 9):
            sync.put_directory(directory(service(), *(service(f"s{n}", f"10.96.1.{n}") for n in range(number))))
            await asyncio.sleep(0.1)
        await asyncio.sleep(5)
        times = [at - start_s for at, _ in backend.applied if at >= start_s]
        assert [round(at, 2) for at in times] == [0.01, 1.02]
        assert len(backend.applied[-1][1].routes) == 9


async def test_health_counts_changes_from_the_second_picture_on_until_they_are_written_or_taken_back() -> None:
    backend = FakeBackend()
    backend.failures = [BackendError("cannot write: locked")] * 3
    other = directory(service("web", "10.96.0.11"))
    async with running(backend, replace(LIMITS, has_agent=False)) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(2)
        assert (sync.status.failures, sync.status.freshness.waits_since_s) == (2, {}), "the first write was never asked"
        assert set(sync.status.freshness.updated_s.values()) == {0.0}, "the start"
        sync.put_directory(other)
        await asyncio.sleep(0.5)
        assert sync.status.freshness.waits_since_s == {4: 2.0}, "of its own family only"
        await asyncio.sleep(10)
        assert (sync.status.failures, sync.status.freshness.waits_since_s) == (0, {})
        updated_s = sync.status.freshness.updated_s[4]
        assert updated_s > 2.0
        sync.put_directory(directory(service()))
        await asyncio.sleep(0.1)
        sync.put_directory(directory(service("web", "10.96.0.12")))
        sync.put_directory(directory(service()))
        await asyncio.sleep(1)
        assert sync.status.freshness.waits_since_s == {}
        backend.failures = [BackendError("cannot write: locked")] * 2
        backend.intact = False
        await asyncio.sleep(1)
        assert (sync.status.failures, sync.status.freshness.waits_since_s) == (1, {}), "nor was a repair"


async def test_a_family_that_is_written_does_not_wait_for_one_that_fails() -> None:
    backend = FakeBackend()
    both = service(), replace(service("six", "fd00::1"), source="six.yaml")
    moved = service("web", "10.96.0.11"), replace(service("six", "fd00::2"), source="six.yaml")
    async with running(backend, replace(LIMITS, has_agent=False)) as sync:
        sync.put_directory(directory(*both))
        await asyncio.sleep(5)
        failure = BackendError("cannot write: locked")
        failure.syncs = (FamilySync(4, full=False, duration_s=0.1), FamilySync(6, False, 0.1, failed=True))
        failure.flows = {4: FlowsLook(0.1, 2)}
        backend.failures = [failure]
        sync.put_directory(directory(*moved))
        await asyncio.sleep(0.5)
        assert sync.status.freshness.waits_since_s == {6: 5.0}
        assert sync.status.flows == failure.flows
        assert sync.status.freshness.updated_s[4] > 5.0 > sync.status.freshness.updated_s[6]


async def test_load_balancers_are_answered_for_a_family_that_is_written_while_the_other_one_fails() -> None:
    backend = FakeBackend()
    checks = tuple(HealthCheck("default", "web", 30000, family, 1) for family in (4, 6))
    failure = BackendError("cannot write: locked")
    failure.syncs = (FamilySync(4, full=False, duration_s=0.1), FamilySync(6, False, 0.1, failed=True))
    backend.failures = [failure]
    async with running(backend, replace(LIMITS, has_agent=False)) as sync:
        assert sync.status.answered(checks) == ()
        sync.put_directory(directory(service()))
        await asyncio.sleep(0.5)
        assert (sync.status.synced_once, sync.status.answered(checks)) == (False, checks[:1])
        await asyncio.sleep(5)
        assert (sync.status.synced_once, sync.status.answered(checks)) == (True, checks)


async def test_what_changes_nothing_writes_nothing() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(2)
        sync.put_directory(directory(service()))
        sync.put_agent(agent(pod("a", "10.0.0.1", {"app": "unrelated"})))
        await asyncio.sleep(2)
        assert len(backend.applied) == 1


async def test_pods_that_leave_with_the_agent_away_stay_as_they_were() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(service(selector={"app": "web"})))
        pods = (pod("a", "10.0.0.1", {"app": "web"}),)
        sync.put_agent(AgentView(pods, connected=True))
        await asyncio.sleep(2)
        sync.put_agent(AgentView(pods, connected=False, error="gone"))
        await asyncio.sleep(20)
        assert len(backend.applied) == 1
        assert sync.table.routes[0].endpoints[0].ip == "10.0.0.1"


async def test_failures_are_retried_with_growing_pauses_and_told() -> None:
    backend = FakeBackend()
    backend.failures = [BackendError("cannot write rules: locked")] * 4
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(0.5)
        assert (sync.status.failures, sync.status.last_error) == (1, "cannot write rules: locked")
        assert sync.status.pending_since_s is not None
        await asyncio.sleep(60)
        assert [round(at) for at, _ in backend.applied[:1]] == [15], "after 1 + 2 + 4 + 8 seconds"
        assert sync.status == replace(sync.status, failures=0, last_error="", pending_since_s=None)


async def test_what_was_only_busy_is_tried_again_each_second() -> None:
    backend = FakeBackend()
    backend.failures = [BackendBusyError(f"the lock is held, {n}") for n in range(20)]
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(25)
        assert sync.status.failures == 0
        assert len(backend.applied) == 1
        assert backend.applied[0][0] < 22


async def test_a_route_that_the_kernel_refuses_is_a_problem_of_its_service_alone() -> None:
    backend = FakeBackend()
    bad, good = service("bad", "10.96.0.11"), service()
    async with running(backend) as sync:
        sync.put_directory(directory(bad, good))
        backend.refuses = RefusedRoute(PortName("default", "bad", "", "TCP"), 4, "no module for it")
        await asyncio.sleep(1)
        assert [route.name.service for route in sync.table.routes] == ["web"]
        (problem,) = sync.table.errors
        assert str(problem) == "cannot program service default/bad spec.ports[0]: no module for it"
        assert problem.source == "bad.yaml"
        assert sync.status.failures == 0
        await asyncio.sleep(100)
        assert sync.status.drift == 0
        backend.refuses = None
        await asyncio.sleep(40)
        assert sync.table.errors == ()


async def test_a_change_does_not_wait_for_the_pause_after_a_failure() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(5)
        backend.failures = [BackendError("x")] * 4
        sync.put_directory(directory())
        await asyncio.sleep(12)
        assert backend.failures == []
        before = len(backend.applied)
        sync.put_directory(directory(service("new", "10.96.0.12")))
        await asyncio.sleep(1.1)
        assert len(backend.applied) == before + 1


async def test_what_can_never_work_ends_the_loop_before_the_first_sync_only() -> None:
    backend = FakeBackend()
    backend.failures = [BackendUnusableError("cannot program service rules: not root")]
    synchronizer = Synchronizer(backend, LIMITS, lambda status: None)
    synchronizer.put_directory(directory(service()))
    with pytest.raises(BackendUnusableError):
        await synchronizer.run()

    later = FakeBackend()
    async with running(later) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(1)
        later.failures = [BackendUnusableError("no iptables")]
        sync.put_directory(directory())
        await asyncio.sleep(10)
        assert later.applied[-1][1].routes == ()


async def test_rules_changed_by_somebody_else_are_back_within_a_second() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(7.3)
        backend.intact = False
        await asyncio.sleep(0.9)
        assert len(backend.applied) == 2
        assert (sync.status.repairs, sync.status.pending_since_s) == (1, None)


async def test_who_has_changed_rules_is_looked_for_before_each_further_try_of_what_fails() -> None:
    """Nobody else would notice it while one of two families fails and the other one believes that it is written."""

    class Watched(FakeBackend):
        looks = 0

        async def verify(self) -> bool:
            self.looks += 1
            raise BackendError("cannot read service rules: locked")

    backend = Watched()
    backend.failures = [BackendError("cannot write: locked")] * 3
    async with running(backend, replace(LIMITS, has_agent=False)) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(0.5)
        assert (backend.looks, sync.status.failures) == (0, 1)
        await asyncio.sleep(6.8)
        assert (backend.looks, sync.status.failures) == (3, 0)
        assert len(backend.applied) == 1


async def test_a_node_that_changes_during_a_verification_does_not_empty_the_rules() -> None:
    class Slow(FakeBackend):
        async def verify(self) -> bool:
            await asyncio.sleep(0.2)
            return self.intact

    backend = Slow()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(3)
        backend.intact = False
        await asyncio.sleep(0.4)
        for zone in "abc":  # at some moment of the looks and the repair
            sync.set_limits(replace(LIMITS, node=NodeFacts("node-a", zone=zone)))
            assert sync.table.routes
            await asyncio.sleep(0.15)
        await asyncio.sleep(3)
    assert len(backend.applied) >= 2
    assert all(table.routes for _, table in backend.applied)


async def test_the_slow_resync_forgets_and_counts_what_events_had_missed() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(29)
        assert backend.resyncs == 0
        await asyncio.sleep(2)
        assert (backend.resyncs, sync.status.drift) == (1, 0)
        backend.stray_chains = 3
        await asyncio.sleep(30)
        assert (backend.resyncs, sync.status.drift) == (2, 1)


async def test_a_new_backend_takes_over_and_writes_everything() -> None:
    old, new = FakeBackend(), FakeBackend()
    async with running(old) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(3)
        sync.replace_backend(new)
        await asyncio.sleep(3)
        assert old.closed
        assert len(new.applied) == 1


async def test_a_missing_directory_at_the_start_is_said_and_waited_for() -> None:
    backend = FakeBackend()
    async with running(backend) as sync:
        sync.put_directory(directory(problem="cannot read /x: directory does not exist"))
        await asyncio.sleep(5)
        assert sync.status.waiting_for == ("cannot read /x: directory does not exist",)
        assert backend.applied == []


async def test_without_an_agent_socket_services_with_a_selector_say_what_they_need() -> None:
    backend = FakeBackend()
    limits = SyncLimits(node=NodeFacts("n"), sync_period_s=30, min_sync_period_s=1, has_agent=False)
    async with running(backend, limits) as sync:
        sync.put_directory(directory(service("a"), service("b", "10.96.0.11", selector={"x": "y"})))
        await asyncio.sleep(1)
        assert [r.name.service for r in backend.applied[-1][1].routes] == ["a"]
        assert "--agent-socket" in sync.table.errors[0].message


async def test_a_repair_does_not_wait_for_the_minimum_period() -> None:
    backend = FakeBackend()
    async with running(backend, replace(LIMITS, min_sync_period_s=10.0)) as sync:
        sync.put_directory(directory(service()))
        await asyncio.sleep(0.1)
        sync.put_directory(directory(service(), service("more", "10.96.0.12")))
        await asyncio.sleep(1)
        assert len(backend.applied) == 1
        backend.intact = False
        await asyncio.sleep(1)
        assert len(backend.applied) == 2
        assert sync.status.repairs == 1


@pytest.mark.parametrize("view", [None, AgentView(pods=()), AgentView(error="no such file")])
async def test_a_directory_that_was_never_read_takes_nothing_from_the_kernel(view: AgentView | None) -> None:
    backend = FakeBackend()
    async with running(backend, replace(LIMITS, has_agent=view is not None)) as sync:
        sync.put_directory(directory(service(), problem="cannot be listed"))  # a remembered file, and no more
        if view is not None:
            sync.put_agent(view)
        await asyncio.sleep(100)
        assert backend.applied == []
        assert sync.status.waiting_for == ("cannot be listed",)
        sync.put_directory(directory(service()))
        await asyncio.sleep(1)
        assert len(backend.applied) == 1


API = replace(LIMITS, has_agent=False, has_directory=False, has_api=True)


async def test_an_api_server_is_waited_for_alone_and_never_forgotten() -> None:
    backend = FakeBackend()
    async with running(backend, API) as sync:
        await asyncio.sleep(100)
        assert sync.status.waiting_for == ("the API server",)
        sync.put_api(ApiView(services=(service(),), waiting_for=("the object of Node node-a in the API server",)))
        await asyncio.sleep(100)
        assert backend.applied == []
        sync.put_api(ApiView(services=(service(),), waiting_for=(), connected=True))
        await asyncio.sleep(1)
        assert len(backend.applied) == 1
        sync.put_api(replace(sync.api, connected=False, error="gone"))
        await asyncio.sleep(10)
        assert len(backend.applied) == 1, "the loss of the server changes nothing"


async def test_of_a_file_and_an_object_with_one_address_the_object_has_it() -> None:
    backend = FakeBackend()
    async with running(backend, replace(API, has_directory=True)) as sync:
        sync.put_directory(directory(service("file")))
        await asyncio.sleep(100)
        assert backend.applied == []
        sync.put_api(ApiView(services=(service("object"),), waiting_for=()))
        await asyncio.sleep(1)
        assert [route.name.service for route in backend.applied[0][1].routes] == ["object"]


async def test_of_a_file_and_an_object_of_one_name_the_file_is_named_and_takes_nothing() -> None:
    def port(node_port: int) -> ServicePortFacts:
        return ServicePortFacts("", "TCP", 80, 8080, node_port)

    backend = FakeBackend()
    async with running(backend, replace(API, has_directory=True)) as sync:
        sync.put_directory(directory(service("web", "10.96.0.77", port=port(30002))))
        other = service("other", "10.96.0.12", port=port(30002))
        sync.put_api(ApiView(services=(service("web", port=port(30001)), other), waiting_for=()))
        await asyncio.sleep(1)
        (_, table), *_ = backend.applied
        assert {route.name.service: route.node_port for route in table.routes} == {"web": 30001, "other": 30002}
        (problem,) = table.errors
        assert (problem.service, problem.field) == ("web", "metadata.name")
        assert "comes from another source" in problem.message


async def test_it_tells_when_that_happened_which_it_was_the_first_to_write() -> None:
    backend = FakeBackend()
    before, told = replace(piece(slice_endpoint("10.0.0.1")), changed_at_s=5.0), service()
    async with running(backend, replace(LIMITS, has_agent=False, has_directory=False, has_api=True)) as sync:
        sync.put_api(ApiView(services=(told,), slices=(before,), waiting_for=()))
        await asyncio.sleep(2)
        assert (sync.status.synced_once, sync.status.programmed) == (True, ()), "a start is nobody's change"
        now = replace(piece(slice_endpoint("10.0.0.2")), changed_at_s=7.0)
        backend.failures = [BackendError("cannot write: locked")]
        sync.put_api(ApiView(services=(told,), slices=(now,), waiting_for=()))
        await asyncio.sleep(0.5)
        assert (sync.status.failures, sync.status.programmed) == (1, ())
        await asyncio.sleep(10)
        assert (sync.status.failures, sync.status.programmed) == (0, ((4, 7.0),))
        six = replace(piece(slice_endpoint("fd00::2"), name="web-6"), family=6, changed_at_s=20.0)
        now = replace(piece(slice_endpoint("10.0.0.3")), changed_at_s=21.0)
        failure = BackendError("cannot write: locked")
        failure.syncs = (FamilySync(4, full=False, duration_s=0.1), FamilySync(6, False, 0.1, failed=True))
        backend.failures = [failure]
        sync.put_api(ApiView(services=(told,), slices=(now, six), waiting_for=()))
        await asyncio.sleep(0.5)
        assert (sync.status.failures, sync.status.programmed) == (1, ((4, 21.0),)), "each family has its own time"
        await asyncio.sleep(10)
        assert (sync.status.failures, sync.status.programmed) == (0, ((6, 20.0),))
