"""The certificate of the node's API, asked for and signed by a real control plane."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from lab.host import LabHost
from lab.machine import LabError
from tests.cluster.conftest import Member
from tests.kernel.netlab import Namespace

pytestmark = pytest.mark.timeout(900)
HEALTHZ = ("get", "--raw", "/api/v1/nodes/member-a/proxy/healthz")


@pytest.fixture
def bootstrapping(member: Member) -> Iterator[Member]:
    """Its agent has the cluster sign."""
    member.node.stop_agent()
    member.node.agent_config["serverTLSBootstrap"] = True
    try:
        member.node.start_agent()
        yield member
    finally:
        member.node.stop_agent()
        del member.node.agent_config["serverTLSBootstrap"]
        member.node.start_agent()
        member.cluster.kubectl("delete", "csr", "--all")


def requests(member: Member) -> list[Any]:
    """Those for a server."""
    found = member.get("csr")["items"]
    return [one for one in found if one["spec"]["signerName"] == "kubernetes.io/kubelet-serving"]


def waiting(member: Member) -> str:
    """The name of the request that nobody has decided about."""
    return next((one["metadata"]["name"] for one in requests(member) if not one.get("status")), "")


def answer(member: Member) -> str:
    """What the API server gets of the node, or what is wrong."""
    try:
        return member.cluster.kubectl(*HEALTHZ)
    except LabError as error:
        return str(error)


def waits_for(member: Member) -> str:
    """The agent's own word for what keeps it from serving."""
    return str(member.node.agent_api("/v1/status")["apiServer"]["waiting"])


def served(member: Member) -> Any:
    """The certificate that a client sees which trusts the cluster, and nobody else."""
    client = ssl.create_default_context(cafile=str(member.cluster.plane.client_authority))
    assert isinstance(member.node.machine, LabHost)
    namespace = Namespace.of_process(member.node.machine.pid)
    try:
        with namespace.entered():
            peer = socket.create_connection(("127.0.0.1", 10250), 30)
        with client.wrap_socket(peer, server_hostname="member-a") as secure:
            return secure.getpeercert()
    finally:
        namespace.close()


def test_the_cluster_signs_the_certificate_of_the_api(bootstrapping: Member) -> None:
    member = bootstrapping
    first = member.wait(lambda: waiting(member), "a request for a certificate")
    # The API server has it before the agent knows that.
    member.wait(lambda: f"kubectl certificate approve {first}" in waits_for(member), "the agent to say what to do")
    assert "error trying to reach service" in answer(member), "nothing signs itself"
    member.cluster.kubectl("certificate", "deny", first)
    second = member.wait(lambda: waiting(member), "another request after the one that was denied")
    assert second != first
    member.cluster.kubectl("certificate", "approve", second)
    member.wait(lambda: answer(member) == "ok", "the API to serve with it")
    status = member.get("node", "member-a")["status"]
    found = served(member)
    assert {name for _, name in found["subjectAltName"]} == {one["address"] for one in status["addresses"]}
    assert ("commonName", "system:node:member-a") in [pair for part in found["subject"] for pair in part]
    member.wait(lambda: waits_for(member) == "", "the agent to wait for nothing")
