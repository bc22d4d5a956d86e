"""longshore-proxy end to end: a real process, real rules, real packets, a real socket of an agent."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from proxy.iptables.observe import parse_save
from tests.kernel.netlab import NODE_IP, Node, ask
from tests.kernel.proxy_process import (
    VIP,
    ProxyProcess,
    TellingAgent,
    eventually,
    one_variant,
    pod_object,
    service_object,
    slice_object,
)


@pytest.fixture
async def agent(daemon: ProxyProcess) -> AsyncIterator[TellingAgent]:
    made = TellingAgent(daemon.agent_socket)
    await made.start()
    yield made
    await made.stop()


def answers(node: Node, vip: str = VIP, times: int = 12) -> set[str]:
    """Who answers at the service's address."""
    return {ask(node.namespace, vip, 80)[0] for _ in range(times)}


async def test_pods_behind_a_vip_come_and_go(node: Node, daemon: ProxyProcess, agent: TellingAgent) -> None:
    first, second = node.add_pods(2)
    daemon.put("web.yaml", service_object())
    agent.tell(pod_object("a", first.ip), pod_object("b", second.ip))
    daemon.start()
    await daemon.until_synced()
    await eventually(lambda: answers(node, times=40) == {first.name, second.name}, "both answer")
    agent.tell(pod_object("a", first.ip), pod_object("b", second.ip, ready=False))
    await eventually(lambda: answers(node) == {first.name}, "the pod that is not ready gets nothing")
    agent.tell()
    await eventually(lambda: refused(node), "no endpoint is a refusal, not a silence")


def refused(node: Node) -> bool:
    try:
        ask(node.namespace, VIP, 80)
    except ConnectionRefusedError:
        return True
    return False


@one_variant
async def test_nothing_is_written_before_the_agent_spoke_and_the_status_says_so(
    node: Node, daemon: ProxyProcess
) -> None:
    daemon.put("web.yaml", service_object())
    before = node.save()
    daemon.start()
    status = await daemon.until("/v1/status", lambda found: "the agent's pods" in "".join(found["waitingFor"]))
    assert "No such file" in status["waitingFor"][0]
    assert not status["ready"]
    assert node.save().count("KUBE") == before.count("KUBE") == 0


@one_variant
async def test_routes_survive_an_agent_that_is_away(node: Node, daemon: ProxyProcess, agent: TellingAgent) -> None:
    first, second = node.add_pods(2)
    daemon.put("web.yaml", service_object())
    agent.tell(pod_object("a", first.ip))
    daemon.start()
    await daemon.until_synced()
    await agent.stop()
    await daemon.until("/v1/status", lambda found: not found["agent"]["connected"])
    assert answers(node) == {first.name}
    agent.tell(pod_object("b", second.ip))
    await agent.start()
    await eventually(lambda: answers(node) == {second.name}, "what the returned agent says counts")


@one_variant
async def test_a_bad_file_keeps_its_last_good_version_and_harms_no_other(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    daemon.start()
    await daemon.until_synced()
    assert answers(node) == {pod.name}
    daemon.put("web.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIp: 10.96.0.10}\n")
    daemon.put("web-slice.yaml", slice_object("web", pod.ip, "127.0.0.1"))
    daemon.put("other.yaml", service_object("other", "10.96.0.11", selector=None))
    daemon.put("other-slice.yaml", slice_object("other", pod.ip))
    found = await daemon.until("/v1/services", lambda found: len(found["services"]) == 2 and len(found["errors"]) == 2)
    by_name = {Path(error["path"]).name: error for error in found["errors"]}
    assert by_name["web.yaml"]["field"] == "spec.clusterIp"
    assert by_name["web.yaml"]["line"] == 4
    assert "did you mean 'clusterIP'" in by_name["web.yaml"]["message"]
    assert by_name["web-slice.yaml"]["field"] == "endpoints[1].addresses[0]"
    assert all(error["lastGood"] for error in found["errors"])
    await daemon.until("/v1/services", lambda found: all(each["ports"][0]["endpoints"] for each in found["services"]))
    await daemon.until_synced()
    assert answers(node, "10.96.0.11") == {pod.name}, "the good file works"
    assert answers(node) == {pod.name}
    assert "127.0.0.1:8080" not in node.save()
    assert daemon.log.read_text().count("clusterIp") == 1, "said once"


@pytest.mark.parametrize("after", [False, True], ids=["before-the-write", "after-the-write"])
async def test_killed_in_mid_sync_it_converges_when_started_again(
    node: Node, daemon: ProxyProcess, agent: TellingAgent, after: bool
) -> None:
    first, second = node.add_pods(2)
    daemon.put("web.yaml", service_object())
    daemon.put("old.yaml", service_object("old", "10.96.0.11"))
    agent.tell(pod_object("a", first.ip))
    daemon.start()
    await daemon.until_synced()
    daemon.kill_at_next_restore(after=after)
    (daemon.services / "old.yaml").unlink()
    agent.tell(pod_object("b", second.ip))
    process = daemon.process
    assert process is not None
    await eventually(lambda: process.poll() is not None, "the write killed the proxy")
    assert process.returncode == -signal.SIGKILL
    daemon.start()
    await daemon.until_synced()
    assert answers(node) == {second.name}
    rules = node.save()
    assert "10.96.0.11" not in rules
    assert first.ip not in rules
    assert daemon.end() == 0
    daemon.start()
    await daemon.until_synced()
    assert comparable(node.save()) == comparable(rules), "nothing doubled, nothing to do"


async def test_killed_again_and_again_while_services_churn(node: Node, daemon: ProxyProcess) -> None:
    rng = random.Random(node.variant)  # noqa: S311 - the same instants each time, as far as a scheduler allows
    (pod,) = node.add_pods(1)
    there: set[int] = set()
    for number in (*range(30), *(rng.randrange(60) for _ in range(400))):
        if len(there) == 30 and number % 40 == 0:
            daemon.start()
        if number in there and rng.random() < 0.5:
            (daemon.services / f"s{number}.yaml").unlink()
            there.discard(number)
        else:
            ports = [{"port": rng.randrange(80, 84), "protocol": rng.choice(["TCP", "UDP"])}]
            daemon.put(f"s{number}.yaml", service_object(f"s{number}", f"10.96.1.{number}", selector=None, ports=ports))
            there.add(number)
        daemon.put(f"s{number}-slice.yaml", slice_object(f"s{number}", pod.ip, f"10.244.9.{rng.randrange(250)}"))
        await asyncio.sleep(rng.random() * 0.02)
        if daemon.process is None or daemon.process.poll() is not None:
            daemon.start()
        elif rng.random() < 0.04:
            daemon.process.kill()
            daemon.process.wait()
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.process.kill()
        daemon.process.wait()
    daemon.start()
    await daemon.until_synced()
    rules = parse_save(node.save())
    referred = " ".join((*rules.nat.chains["KUBE-SERVICES"].rules, *rules.filter.chains["KUBE-SERVICES"].rules))
    assert {word for word in referred.split() if word.startswith("10.96.")} == {f"10.96.1.{n}/32" for n in there}
    assert [name for name in rules.nat.chains if name.startswith("KUBE-SVC-") and name not in referred] == []
    jumps = [*rules.nat.jumps, *rules.filter.jumps]
    assert len(jumps) == len(set(jumps))
    assert (await daemon.get("/v1/status"))["repairs"] == 0, "no program of a dead proxy wrote later"


@one_variant
async def test_a_directory_that_vanishes_takes_no_service_and_is_told(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    daemon.start()
    await daemon.until_synced()
    daemon.services.rename(daemon.base / "aside")
    status = await daemon.until("/v1/status", lambda found: bool(found["directory"]["problem"]))
    assert status["directory"] == {
        "problem": f"cannot read {daemon.services}: directory does not exist; the last known services stay",
        "files": 2,
        "filesInError": 0,
    }
    assert answers(node) == {pod.name}
    (daemon.base / "aside").rename(daemon.services)
    await daemon.until("/v1/status", lambda found: not found["directory"]["problem"])


async def test_of_two_services_with_one_address_the_second_takes_over(node: Node, daemon: ProxyProcess) -> None:
    first, second = node.add_pods(2)
    for name, pod in (("a", first), ("b", second)):
        ports = [{"port": 80, "targetPort": 8080, "nodePort": 30080}]
        daemon.put(f"{name}.yaml", service_object(name, selector=None, type="NodePort", ports=ports))
        daemon.put(f"{name}-slice.yaml", slice_object(name, pod.ip))
    daemon.start()
    await daemon.until_synced()
    assert answers(node) == {first.name}
    found = await daemon.get("/v1/services")
    assert [each["ports"][0]["programmed"] for each in found["services"]] == [True, False]
    assert found["services"][1]["problems"][0]["message"] == f"{VIP}:80/TCP belongs to service default/a"
    (daemon.services / "a.yaml").unlink()
    await eventually(lambda: answers(node) == {second.name}, "the second has the address now")
    assert ask(node.neighbour, NODE_IP, 30080)[0] == second.name


def comparable(rules: str) -> list[str]:
    return sorted(line.split(" [")[0] for line in rules.splitlines() if not line.startswith("#"))


async def test_rules_that_somebody_flushed_come_back(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    daemon.start()
    await daemon.until_synced()
    for damage in ("-t nat -F", "-t nat -F KUBE-SERVICES", "-t nat -D OUTPUT 1"):
        before = (await daemon.get("/v1/status"))["repairs"]
        node.iptables(damage)
        await daemon.until_repaired(more_than=before)
        assert answers(node) == {pod.name}


async def test_stopping_leaves_the_rules_and_cleanup_takes_every_trace(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    node.iptables("-t nat -A OUTPUT -d 203.0.113.1 -j ACCEPT")
    before = comparable(node.save())
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    daemon.start()
    await daemon.until_synced()
    status, said = daemon.run("--cleanup")
    assert status == 1, "a running proxy would write them again"
    assert f"process {daemon.process.pid if daemon.process else 0}" in said
    assert daemon.end() == 0
    assert answers(node) == {pod.name}
    status, said = daemon.run("--cleanup")
    assert status == 0, said
    left = [line for line in comparable(node.save()) if line not in before]
    assert [line for line in left if "KUBE" in line or pod.ip in line] == []
    assert "-A OUTPUT -d 203.0.113.1/32 -j ACCEPT" in node.save(), "what is not ours stays"


@one_variant
async def test_init_only_prepares_the_kernel_and_leaves_rules_alone(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    status, said = daemon.run("--init-only")
    assert status == 0, said
    assert node.program("cat /proc/sys/net/ipv4/conf/all/route_localnet") == "1\n"
    assert "KUBE-FIREWALL" in node.save(), "behind its guard"
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    daemon.start()
    await daemon.until_synced()
    assert daemon.end() == 0
    before = comparable(node.save())
    status, said = daemon.run("--init-only")
    assert (status, comparable(node.save())) == (0, before), said
    assert answers(node) == {pod.name}


@one_variant
async def test_health_and_metrics_answer_where_kube_proxy_answers(node: Node, daemon: ProxyProcess) -> None:
    daemon.put("web.yaml", service_object(selector=None))
    daemon.start()
    await daemon.until_synced()
    async with aiohttp.ClientSession() as session:
        async with session.get("http://127.0.0.1:10256/healthz") as response:
            assert (response.status, (await response.json())["nodeEligible"]) == (200, True)
        async with session.get("http://127.0.0.1:10256/livez") as response:
            assert response.status == 200
        async with session.get("http://127.0.0.1:10249/metrics") as response:
            said = await response.text()
            assert "kubeproxy_sync_proxy_rules_duration_seconds_count" in said
            for table, count in parse_save(node.save()).rule_counts().items():
                name = f'kubeproxy_sync_proxy_rules_iptables_total{{ip_family="IPv4",table="{table}"}}'
                assert f"{name} {count}.0\n" in said
        async with session.get("http://127.0.0.1:10249/proxyMode") as response:
            assert await response.text() == "iptables"


def masquerades_all(node: Node) -> bool:
    return any(f"-d {VIP}/32" in line and "KUBE-MARK-MASQ" in line for line in node.save().splitlines())


@one_variant
async def test_systemd_is_told_and_a_hangup_reads_the_configuration_again(node: Node, daemon: ProxyProcess) -> None:
    (pod,) = node.add_pods(1)
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", pod.ip))
    config = daemon.base / "config.yaml"
    head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
    config.write_text(head)
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(daemon.base / "notify"))
        manager.setblocking(False)

        def told(word: str) -> bool:
            while True:
                try:
                    heard.append(manager.recv(4096).decode())
                except BlockingIOError:
                    return any(word in message for message in heard)

        daemon.start(f"--config={config}", NOTIFY_SOCKET=str(daemon.base / "notify"), WATCHDOG_USEC="20000000")
        await eventually(lambda: told("READY=1"), "READY")
        assert answers(node) == {pod.name}, "READY means that the services work"
        await eventually(lambda: told("WATCHDOG=1"), "WATCHDOG")
        assert not masquerades_all(node)
        for text in ("iptables: {masqueradeAll: true}\n", "iptables: {syncPeriode: 1s}\n"):
            heard.clear()
            config.write_text(head + text)
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGHUP)
            await eventually(lambda: told("RELOADING=1"), "RELOADING")
            await eventually(lambda: told("READY=1"), "READY again")
            await eventually(
                lambda: masquerades_all(node), "the new configuration shapes the rules, a bad one does not"
            )
        await eventually(lambda: "did you mean 'syncPeriod'" in daemon.log.read_text(), "the bad one is said")
        assert answers(node) == {pod.name}
        assert daemon.end() == 0
        assert told("STOPPING=1")


@one_variant
def test_what_is_missing_on_the_host_is_said_with_what_to_do(daemon: ProxyProcess) -> None:
    daemon.put("web.yaml", service_object(selector=None))
    status, said = daemon.run(path="/nonexistent")
    assert status == 1
    assert "install the package iptables" in said
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        flags = [f"--manifest-dir={directory}", f"--api-socket={directory}/proxy.sock", "--agent-socket="]
        # The interpreter may be where only root can read, so everything is imported first.
        program = "import os, sys, proxy.daemon as d; os.setresuid(65534, 65534, 65534); sys.exit(d.run(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", program, *flags],
            env=daemon.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert "not root; run longshore-proxy as root" in done.stderr


@one_variant
def test_wrong_configuration_exits_78(daemon: ProxyProcess) -> None:
    status, said = daemon.run("--proxy-mode=userspace")
    assert (status, "flag --proxy-mode" in said) == (78, True)
    daemon.services.rmdir()
    status, said = daemon.run()
    assert status == 78
    assert f"mkdir -p {daemon.services}" in said


@one_variant
async def test_a_taken_health_port_is_waited_for_unless_it_must_not_be(daemon: ProxyProcess) -> None:
    with socket.create_server(("0.0.0.0", 10256)):
        status, said = daemon.run("--bind-address-hard-fail")
        assert status == 1
        assert "cannot serve healthz on 0.0.0.0:10256" in said
        daemon.start()
        await daemon.until_synced()
    await eventually(lambda: listens(10256), "it listens at last")


def listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True
