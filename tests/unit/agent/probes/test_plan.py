"""From the API's Probe to what is asked: each field arrives, names of ports are resolved, defaults hold."""

from __future__ import annotations

from lightkube.models import core_v1

from agent.probes.machine import ProbeKind, ProbeTiming
from agent.probes.plan import HttpAsk, TcpAsk, Unaskable, plan_probes

PORTS = [core_v1.ContainerPort(containerPort=8443, name="web")]


def test_every_field_of_an_http_probe_is_asked_with() -> None:
    headers = [core_v1.HTTPHeader(name="X-A", value="1"), core_v1.HTTPHeader(name="X-A", value="2")]
    get = core_v1.HTTPGetAction(scheme="HTTPS", host="10.9.9.9", port="web", path="/ok?a=1", httpHeaders=headers)
    probe = core_v1.Probe(
        httpGet=get,
        initialDelaySeconds=1,
        periodSeconds=2,
        timeoutSeconds=3,
        successThreshold=4,
        failureThreshold=5,
    )
    container = core_v1.Container(name="a", ports=PORTS, livenessProbe=probe, readinessProbe=probe, startupProbe=probe)
    plans = plan_probes(container)
    assert list(plans) == [ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS]
    for kind, plan in plans.items():
        assert plan.kind is kind
        assert plan.ask == HttpAsk("https", "10.9.9.9", 8443, "/ok?a=1", (("X-A", "1"), ("X-A", "2")))
        assert plan.timing == ProbeTiming(1, 2, 3, 4, 5)


def test_the_least_that_an_http_probe_says() -> None:
    probe = core_v1.Probe(httpGet=core_v1.HTTPGetAction(port=80))
    plan = plan_probes(core_v1.Container(name="a", readinessProbe=probe))[ProbeKind.READINESS]
    assert plan.ask == HttpAsk("http", "", 80, "/")
    assert plan.timing == ProbeTiming(0, 10, 1, 1, 3)


def test_a_tcp_probe() -> None:
    for port, expected in ((80, 80), ("web", 8443), ("81", 81)):
        probe = core_v1.Probe(tcpSocket=core_v1.TCPSocketAction(port=port, host="h"))
        plan = plan_probes(core_v1.Container(name="a", ports=PORTS, livenessProbe=probe))[ProbeKind.LIVENESS]
        assert plan.ask == TcpAsk("h", expected)


def test_a_port_that_is_none_cannot_be_asked() -> None:
    for port in ("nobody", 0, 65536, "70000"):
        probe = core_v1.Probe(tcpSocket=core_v1.TCPSocketAction(port=port))
        plan = plan_probes(core_v1.Container(name="a", ports=PORTS, livenessProbe=probe))[ProbeKind.LIVENESS]
        assert isinstance(plan.ask, Unaskable)
