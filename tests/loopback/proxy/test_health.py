"""Verdict, report, metrics and what the log says once."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from daemonkit.watch_dir import DirectorySnapshot
from kube_client.counts import RequestCounts
from proxy.backend import FamilySync, FlowsLook, SyncReport
from proxy.config import ConntrackConfig
from proxy.health import Health, health_app, judge
from proxy.log_changes import ProblemLog
from proxy.metrics import ProxyMetrics
from proxy.metrics_api import metrics_app
from proxy.node_settings import plan_settings
from proxy.report import services_report, status_report
from proxy.resolve import resolve
from proxy.routes import NodeFacts, RoutingTable, ServiceProblem
from proxy.sources.agent_pods import AgentView
from proxy.sources.directory import DirectoryState, ManifestFile, merge_files, parse_file, unreadable
from proxy.sync_status import Changes, Freshness, SyncStatus
from tests.unit.proxy.facts import piece, service, slice_endpoint

START = Freshness().asked((4, 6), 0.0).updated((4, 6), 0.0)


@pytest.mark.parametrize(
    ("fresh", "now_s", "families"),
    [
        (Freshness(), 1e6, {}),
        (START, 1e6, {4: True, 6: True}),
        (START.asked((4, 6), 100.0), 159.0, {4: True, 6: True}),
        (START.asked((4, 6), 100.0), 160.0, {4: False, 6: False}),
        (START.asked((4,), 100.0).asked((4,), 150.0), 160.0, {4: False, 6: True}),
        (START.asked((4, 6), 100.0).updated((4,), 101.0), 160.0, {4: True, 6: False}),
        (START.asked((4, 6), 100.0).updated((4, 6), 101.0), 1e6, {4: True, 6: True}),
        (START.asked((6,), 100.0).updated((6,), 101.0).asked((6,), 150.0), 209.0, {4: True, 6: True}),
        (START.asked((6,), 100.0).updated((6,), 101.0).asked((6,), 150.0), 210.0, {4: True, 6: False}),
    ],
)
def test_healthy_until_a_change_waits_two_sync_periods_in_a_family(
    fresh: Freshness, now_s: float, families: dict[int, bool]
) -> None:
    """A table of states as kube-proxy's ProxyHealthServer has them."""
    # Of the first sync, repairs and resyncs health knows nothing: nobody asked for them.
    status = SyncStatus(freshness=fresh, pending_since_s=0.0, failures=3, last_error="cannot write: locked")
    health = judge(status, 30.0, now_s)
    assert (health.healthy, health.families) == (all(families.values()), families)
    assert ("locked" in health.reason) is not health.healthy


@pytest.mark.parametrize("stays", [True, False])
async def test_only_healthz_fails_on_a_node_that_is_being_deleted(stays: bool) -> None:
    app = health_app(lambda: Health(True, ""), dict, ProxyMetrics(), eligible=lambda: stays)
    async with TestClient(TestServer(app)) as client:
        healthz, livez = await client.get("/healthz"), await client.get("/livez")
        said = await healthz.json()
    assert (healthz.status, livez.status) == (200 if stays else 503, 200)
    assert (said["nodeEligible"], said["healthy"], "status" in said) == (stays, True, False)
    assert ("reason" in said, said["lastUpdated"] == said["currentTime"]) == (not stays, stays)


async def test_answers_are_those_of_kube_proxys_multiplexer() -> None:
    verdict = Health(True, "", {4: True, 6: True})
    health = health_app(lambda: verdict, lambda: {4: 5.5, 6: 5.5}, ProxyMetrics())
    numbers = metrics_app(ProxyMetrics(), "nftables", lambda: {"mode": "nftables"})
    async with TestClient(TestServer(health)) as client:
        healthz = await client.post("/healthz")
        status = (await healthz.json())["status"]
        lost = await client.get("/healthz/")
    synced = {"lastUpdated": "1970-01-01T00:00:05.500000Z", "healthy": True}
    assert (healthz.headers["Content-Type"], status) == ("application/json", {"IPv4": synced, "IPv6": synced})
    assert (lost.status, lost.headers["X-Content-Type-Options"]) == (404, "nosniff")
    async with TestClient(TestServer(numbers)) as client:
        found = {path: await (await client.put(path)).text() for path in ("/healthz/ping", "/proxyMode", "/configz")}
        verbose = await (await client.get("/healthz?verbose")).text()
        nowhere = [(await client.get(path)).status for path in ("/livez", "/", "/healthz/other", "/debug/pprof/")]
    assert list(found.values()) == ["ok", "nftables", '{"kubeproxy.config.k8s.io":{"mode":"nftables"}}']
    assert (verbose, nowhere) == ("[+]ping ok\nhealthz check passed\n", [404] * 4)


async def test_a_late_family_is_told_beside_the_other_and_the_newest_good_sync_of_both() -> None:
    verdict = Health(False, "late", {4: True, 6: False})
    app = health_app(lambda: verdict, lambda: {4: 7.0, 6: 5.0}, ProxyMetrics())
    async with TestClient(TestServer(app)) as client:
        answers = [await client.get(path) for path in ("/healthz", "/livez")]
        said = [await answer.json() for answer in answers]
    times = {"IPv4": "1970-01-01T00:00:07Z", "IPv6": "1970-01-01T00:00:05Z"}
    status = {name: {"lastUpdated": times[name], "healthy": name == "IPv4"} for name in times}
    assert [answer.status for answer in answers] == [503, 503]
    assert [(one["lastUpdated"], one["healthy"], one["status"]) for one in said] == [(times["IPv4"], False, status)] * 2


async def test_statusz_and_flagz_for_people_and_for_programs() -> None:
    numbers = metrics_app(ProxyMetrics(), "ipvs", flags=lambda: {"v": "2"}, started_s=time.time() - 3725)
    kind = "application/json;v=v1beta1;g=config.k8s.io;as="
    async with TestClient(TestServer(numbers)) as client:
        status, flags = [await (await client.post(path)).text() for path in ("/statusz", "/flagz")]
        found = await client.get("/flagz", headers={"Accept": f"{kind}Flagz"})
        refused = await client.get("/statusz", headers={"Accept": f"{kind}Flagz"})
        said, why = await found.json(), await refused.json()
    assert status.startswith("\nkube-proxy statusz\n")
    assert "Up: 1 hr 02 min" in status
    assert "Binary version: 1.36.3\n" in status
    assert status.endswith("Paths: /configz /flagz /healthz /metrics /proxyMode\n")
    assert flags.endswith("\nv=2\n")
    assert found.headers["Content-Type"] == "application/json;g=config.k8s.io;v=v1beta1;as=Flagz"
    assert (said["metadata"], said["flags"]) == ({"name": "kube-proxy"}, {"v": "2"})
    assert (refused.status, why["reason"], why["code"]) == (406, "NotAcceptable", 406)


def test_reports_are_json_and_name_endpoints_problems_and_errors() -> None:
    facts = service()
    files = {"web.yaml": ManifestFile("web.yaml", b"", facts, None), "bad.yaml": parse_file("bad.yaml", b"[", None)}
    state = merge_files(DirectoryState(), files)
    table = resolve(state.services, [piece(slice_endpoint("10.0.0.1"))], [], NodeFacts("n")).table
    table = RoutingTable(table.routes, (ServiceProblem("default", "web", "spec.type", "not yet"),))
    report = json.loads(json.dumps(services_report(state, table)))
    (shown,) = report["services"]
    assert shown["ports"][0]["endpoints"] == [{"ip": "10.0.0.1", "port": 8080, "local": False}]
    assert shown["ports"][0]["programmed"] is True
    assert shown["problems"] == [{"field": "spec.type", "message": "not yet"}]
    assert (report["errors"][0]["path"], report["errors"][0]["lastGood"]) == ("bad.yaml", False)
    assert services_report(None, RoutingTable(())) == {"services": [], "errors": [], "outOfDate": ""}
    failing = SyncStatus(failures=2, last_error="locked")
    assert services_report(None, RoutingTable(()), failing)["outOfDate"] == "locked"


def test_status_report() -> None:
    status = SyncStatus(waiting_for=(), synced_once=True, last_sync_s=5.0, last_report=SyncReport(3, True, 0.5))
    report = json.loads(json.dumps(status_report(status, None, AgentView(), {"pid": 1}, 7.0)))
    assert (report["pid"], report["synced"], report["lastSyncSecondsAgo"]) == (1, True, 2.0)
    assert report["lastSync"] == {"changedChains": 3, "full": True, "seconds": 0.5}
    assert report["agent"] == {"connected": False, "pods": None, "error": ""}
    assert report["directory"] == {"problem": "the directory was not read yet", "files": 0, "filesInError": 0}


def test_the_status_tells_that_the_directory_cannot_be_read() -> None:
    path = Path("/etc/longshore/services")
    snapshot = DirectorySnapshot(path, missing=True, error=None, files={})
    known = merge_files(DirectoryState(), {"a.yaml": parse_file("a.yaml", b"{", None)})
    report = status_report(SyncStatus(), unreadable(known, snapshot), AgentView(), {}, 0.0)
    assert report["directory"]["problem"].startswith(f"cannot read {path}: directory does not exist")
    assert (report["directory"]["files"], report["directory"]["filesInError"]) == (1, 1)


def test_metrics_count_what_the_status_tells() -> None:
    metrics = ProxyMetrics(families=(4, 6))
    table = resolve([service()], [], [], NodeFacts("n")).table
    fresh = START.asked((6,), 1.0)
    tried = (
        FamilySync(4, full=False, duration_s=0.1),
        FamilySync(6, full=True, duration_s=0.2, failed_writes=1, failed_changes=1, failed=True),
    )
    looks = {4: FlowsLook(0.002, 2)}
    failed = SyncStatus(failures=1, syncs=tried, flows=looks, freshness=fresh, seen=Changes(3, 2))
    metrics.observe(SyncStatus(freshness=START), table, 9.0)
    metrics.observe(failed, table, 10.0)
    waiting = metrics.render()[0].decode().splitlines()
    families = (
        FamilySync(4, full=True, duration_s=0.4, wrote={"nat": 7}, held=lambda: {"filter": 3, "nat": 9}),
        FamilySync(6, full=False, duration_s=0.1, failed_writes=2, held=dict),
    )
    report = SyncReport(3, True, 0.7, families=families, flows={6: FlowsLook(0.002, 5)})
    written = Changes(3, 2)
    done = SyncStatus(
        last_report=report, syncs=families, flows=report.flows, repairs=2, programmed=((6, 10.7), (6, 5.0)),
        seen=written, written=written,
    )  # fmt: skip
    metrics.observe(done, table, 11.0)
    text = metrics.render()[0].decode()
    for line in (
        'kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 0.5',
        'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1.0',
        'kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 0.2',
        'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 9.0',
        'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"} 10.0',
        'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 11.0',
        'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 0.0',
        'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 3.0',
        'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 0.0',
        'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv6"} 1.0',
        'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="filter"} 3.0',
        'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} 9.0',
        'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="filter"} 0.0',
        'kubeproxy_sync_proxy_rules_iptables_last{ip_family="IPv4",table="nat"} 7.0',
        'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv6",le="0.5"} 1.0',
        'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv6"} 2.0',
        'kubeproxy_conntrack_reconciler_sync_duration_seconds_bucket{ip_family="IPv6",le="0.002"} 1.0',
        'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 2.0',
        'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv6"} 5.0',
        "kubeproxy_sync_proxy_rules_service_changes_total 3.0",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0.0",
        "longshore_proxy_repairs_total 2.0",
        "longshore_proxy_routes 1.0",
    ):
        assert line in text.splitlines()
    assert "kubeproxy_sync_proxy_rules_service_changes_pending 3.0" in waiting
    assert 'kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv6"}' not in "".join(waiting)
    assert 'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 10.0' in waiting
    assert 'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 0.0' not in waiting, "never"
    assert "kubeproxy_sync_proxy_rules_endpoint_changes_pending 2.0" in waiting


def test_a_failure_of_which_the_family_is_not_known_counts_once() -> None:
    metrics = ProxyMetrics("ipvs", families=(4, 6))
    done = SyncStatus(syncs=(FamilySync(4, full=True, duration_s=0.5),))
    metrics.observe(done, RoutingTable(()), 1.0)
    metrics.observe(replace(done, syncs=(), failures=1), RoutingTable(()), 2.0)
    metrics.observe(replace(done, syncs=(), failures=2), RoutingTable(()), 3.0)
    text = metrics.render()[0].decode()
    assert 'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 2.0' in text
    assert 'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 0.0' in text


EVERY_MODE = {
    "kubeproxy_sync_proxy_rules_duration_seconds": ("histogram", {"ip_family"}),
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds": ("gauge", {"ip_family"}),
    "kubeproxy_sync_proxy_rules_last_timestamp_seconds": ("gauge", {"ip_family"}),
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending": ("gauge", set()),
    "kubeproxy_sync_proxy_rules_endpoint_changes": ("counter", set()),
    "kubeproxy_sync_proxy_rules_service_changes_pending": ("gauge", set()),
    "kubeproxy_sync_proxy_rules_service_changes": ("counter", set()),
    "kubeproxy_proxy_healthz": ("counter", {"code"}),
    "kubeproxy_proxy_livez": ("counter", {"code"}),
    "kubeproxy_network_programming_duration_seconds": ("histogram", {"ip_family"}),
    "kubeproxy_sync_proxy_rules_no_local_endpoints_total": ("gauge", {"traffic_policy", "ip_family"}),
    "kubeproxy_conntrack_reconciler_sync_duration_seconds": ("histogram", {"ip_family"}),
    "kubeproxy_conntrack_reconciler_deleted_entries": ("counter", {"ip_family"}),
    "rest_client_requests": ("counter", {"code", "method", "host"}),
    "rest_client_request_duration_seconds": ("histogram", {"verb", "host"}),
}
PARTIAL = {
    "kubeproxy_sync_full_proxy_rules_duration_seconds": ("histogram", {"ip_family"}),
    "kubeproxy_sync_partial_proxy_rules_duration_seconds": ("histogram", {"ip_family"}),
}
TABLES = {
    "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures": ("counter", {"ip_family"}),
    "kubeproxy_sync_proxy_rules_iptables_total": ("gauge", {"table", "ip_family"}),
    "kubeproxy_sync_proxy_rules_iptables_last": ("gauge", {"table", "ip_family"}),
}
RESTORES = {"kubeproxy_sync_proxy_rules_iptables_restore_failures": ("counter", {"ip_family"})}
TRANSACTIONS = {"kubeproxy_sync_proxy_rules_nftables_sync_failures": ("counter", {"ip_family"})}


@pytest.mark.parametrize(
    ("mode", "more"),
    [("iptables", {**PARTIAL, **RESTORES, **TABLES}), ("nftables", {**PARTIAL, **TRANSACTIONS}), ("ipvs", RESTORES)],
)
def test_names_types_and_labels_are_kube_proxys_in_each_mode(mode: str, more: dict[str, tuple[str, set[str]]]) -> None:
    requests = RequestCounts()
    requests.answered("GET", "https://server:6443", 200)
    requests.seconds.add(0.1, "GET", "server:6443")
    metrics = ProxyMetrics(mode, (4, 6), requests, "1.2")
    table = resolve([service()], [], [], NodeFacts("n")).table
    families = (
        FamilySync(4, full=True, duration_s=0.5, held=lambda: {"nat": 1}),
        FamilySync(6, full=False, duration_s=0.1),
    )
    report = SyncReport(1, True, 0.1, families=families, flows={4: FlowsLook(0.1, 0)})
    done = SyncStatus(freshness=START, last_report=report, syncs=families, flows=report.flows, programmed=((4, 1.0),))
    metrics.observe(done, table, 2.0)
    metrics.count_healthz("200")
    metrics.count_livez("200")
    text, content_type = metrics.render()
    found = {
        one.name: (one.type, {name for sample in one.samples for name in sample.labels} - {"le"})
        for one in text_string_to_metric_families(text.decode())
    }
    ours = ("process_", "longshore_", "kubernetes_build_info")
    assert {name: seen for name, seen in found.items() if not name.startswith(ours)} == {**EVERY_MODE, **more}
    assert 'git_version="v1.36.3+longshore-1.2"' in text.decode()
    assert 'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv4",le="1"} 1.0' in text.decode()
    assert content_type.startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("gates", "codes"),
    [
        ({}, [200, 200]),
        ({"ComponentFlagz": False}, [200, 404]),
        ({"AllBeta": False, "ComponentFlagz": True}, [404, 200]),
    ],
)
async def test_statusz_and_flagz_are_there_as_their_feature_gates_say(gates: dict[str, bool], codes: list[int]) -> None:
    async with TestClient(TestServer(metrics_app(ProxyMetrics(), "iptables", gates=gates))) as client:
        found = [(await client.get(path)).status for path in ("/statusz", "/flagz")]
    assert found == codes


def test_each_problem_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ProblemLog()
    bad = merge_files(DirectoryState(), {"a.yaml": parse_file("a.yaml", b"[", None)})
    problem = ServiceProblem("default", "web", "spec.type", "not yet")
    for _ in range(3):
        log.see_directory(bad)
        log.see_services([problem])
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert caplog.records[1].__dict__["SERVICE"] == "default/web"
    caplog.clear()
    for _ in range(3):
        log.see_directory(DirectoryState())
        log.see_services([])
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]


def test_conntrack_settings_leave_alone_what_is_zero() -> None:
    plan = dict(plan_settings(ConntrackConfig(), cpus=2))
    assert plan == {
        "net.netfilter.nf_conntrack_max": "131072",
        "net.netfilter.nf_conntrack_tcp_timeout_established": "86400",
        "net.netfilter.nf_conntrack_tcp_timeout_close_wait": "3600",
    }
    assert dict(plan_settings(ConntrackConfig(), cpus=8))["net.netfilter.nf_conntrack_max"] == "262144"
    assert dict(plan_settings(ConntrackConfig(), cpus=64))["net.netfilter.nf_conntrack_max"] == "1048576"
    few = ConntrackConfig(max_per_core=1, min_entries=2_000_000)
    assert dict(plan_settings(few, cpus=64))["net.netfilter.nf_conntrack_max"] == "2000000"
    nothing = ConntrackConfig(max_per_core=0, tcp_established_timeout_s=0, tcp_close_wait_timeout_s=0)
    assert plan_settings(nothing, cpus=8) == ()
