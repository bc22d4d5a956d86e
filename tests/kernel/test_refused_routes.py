"""A route that iptables or the kernel refuses is left out and named; all others are programmed."""

from __future__ import annotations

import json
from dataclasses import replace

from proxy.backend import SyncReport
from proxy.routes import Endpoint, PortName, ServiceRoute
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import Node, ask
from tests.kernel.proxy_process import ProxyProcess, eventually, one_variant, service_object, slice_object
from tests.kernel.routes_of import PORT, VIP, many, route, table


def refused(report: SyncReport) -> list[PortName]:
    return sorted(each.name for each in report.refused)


def bad(of: ServiceRoute) -> ServiceRoute:
    """A target that no iptables takes stands for whatever a kernel has no module for."""
    return replace(of, endpoints=(Endpoint("10.0.0.999", 80, local=False),))


async def test_the_refused_ones_are_found_among_many(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    good, few = route(pods), many(60)
    wanted = table(good, *(bad(each) if number in (7, 8, 41) else each for number, each in enumerate(few)))
    backend = proxy.start()
    report = await backend.apply(wanted)
    assert refused(report) == [few[number].name for number in (7, 8, 41)]
    assert "10.0.0.999" in report.refused[0].cause
    assert "refused by iptables" in report.refused[0].cause
    assert ask(node.neighbour, VIP, PORT)[0] == "pod-0"
    rules = node.save()
    assert sum(f"-d {each.cluster_ip}/32" in rules for each in few) == 57
    assert await backend.verify()


async def test_what_is_refused_is_tried_again_without_touching_the_others(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    wanted = table(route(pods), bad(route([], service="bad", vip="10.96.0.11")))
    assert len((await backend.apply(wanted)).refused) == 1
    before = node.save(options="-c")
    again = await backend.apply(wanted)
    assert (again.changed_chains, len(again.refused)) == (0, 1)
    await backend.resync()
    again = await backend.apply(wanted)
    assert (again.changed_chains, len(again.refused)) == (0, 1)
    assert len(node.save(options="-c")) == len(before)
    repaired = await backend.apply(table(route(pods), route(pods, service="bad", vip="10.96.0.11")))
    assert repaired.refused == ()
    assert ask(node.neighbour, "10.96.0.11", PORT)[0] == "pod-0"


async def test_a_change_that_is_refused_takes_only_its_own_service_away(node: Node, proxy: Proxy) -> None:
    pods = node.add_pods(1)
    backend = proxy.start()
    other = route(pods, service="other", vip="10.96.0.11")
    await backend.apply(table(route(pods), other))
    report = await backend.apply(table(bad(route(pods)), other, *many(5)))
    assert refused(report) == [route(pods).name]
    assert ask(node.neighbour, "10.96.0.11", PORT)[0] == "pod-0"
    assert f"-d {VIP}/32" not in node.save()
    assert (await proxy.start().apply(table(other, *many(5)))).changed_chains == 0


@one_variant
async def test_the_daemon_names_it_and_says_it_once(node: Node, daemon: ProxyProcess) -> None:
    """A wrapper that refuses SCTP stands for a kernel without that module."""
    (pod,) = node.add_pods(1)
    failure = "line 3: RULE_APPEND failed (No such file or directory): rule in chain X"
    for name in (f"iptables-{node.variant}-restore", "iptables-restore"):
        daemon.wrap(name, f"if grep -q 'p sctp' /proc/self/fd/0; then echo '{failure}' >&2; exit 4; fi")
    ports = [{"port": 80, "targetPort": 8080, "protocol": "SCTP"}]
    daemon.put("bad.yaml", service_object("bad", "10.96.0.11", selector=None, ports=ports))
    bad_slice = slice_object("bad", pod.ip)
    bad_slice["ports"][0]["protocol"] = "SCTP"
    daemon.put("bad-slice.yaml", bad_slice)
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    config = daemon.base / "config.yaml"
    head = {"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration"}
    config.write_text(json.dumps({**head, "iptables": {"syncPeriod": "1s", "minSyncPeriod": "0s"}}))
    daemon.start(f"--config={config}")
    await daemon.until_synced()
    assert ask(node.namespace, VIP, PORT)[0] == pod.name
    found = await daemon.get("/v1/services")
    programmed = {each["name"]: (each["ports"][0]["programmed"], each["problems"]) for each in found["services"]}
    assert programmed["web"] == (True, [])
    assert programmed["bad"][0] is False
    assert "No such file or directory" in programmed["bad"][1][0]["message"]
    await eventually(lambda: daemon.log.read_text().count("service default/bad") >= 1, "it is said")
    last = (await daemon.until("/v1/status", lambda found: found["lastSyncSecondsAgo"] > 0.3))["lastSyncSecondsAgo"]
    await daemon.until("/v1/status", lambda found: found["lastSyncSecondsAgo"] < last)
    status = await daemon.get("/v1/status")
    assert (status["healthy"], status["drift"], status["failures"]) == (True, 0, 0)
    assert daemon.log.read_text().count("service default/bad") == 1
