"""From any interrupted state to the same end, sampled on a real containerd: the agent dies anywhere in a plan, somebody
stops or removes some of the pod meanwhile, and the next agent makes it whole, or takes the rest of it away.
"""

from __future__ import annotations

import random

import pytest

from lab import sandboxes
from lab.cri_gate import CriGate
from lab.host import NODE_IP
from lab.machine import wait_until
from lab.manifests import is_ready
from lab.node import LabNode
from tests.lab.test_crash_agent import assert_one_pod_at_a_time, sidecar_and_hook, two_containers

SAMPLES = 4


def is_whole(node: LabNode) -> bool:
    """One ready sandbox with one running container of each name, beside each at most one dead one; and Ready."""
    endpoint = node.containerd.endpoint
    found, containers = sandboxes.list_sandboxes(endpoint), sandboxes.list_containers(endpoint)
    assert_one_pod_at_a_time(found, containers)
    running, dead = ([one.name for one in containers if one.running is runs] for runs in (True, False))
    if len(found) != 1 or not found[0].ready or sorted(running) != ["a", "b"] or len(set(dead)) != len(dead):
        return False
    return is_ready(node.pod("web")) and len(node.containerd.tasks()) == 3


def die_within(node: LabNode, gate: CriGate, number: int) -> None:
    """Let the agent die at that mutating call, when the runtime has done it."""
    gate.reset()
    died: list[str] = []

    def kill(n: int, method: str) -> None:
        if n == number:
            died.append(method)
            node.kill_agent()

    gate.after = kill
    wait_until(lambda: bool(died), f"call {number}")
    gate.reset()


def meddle(node: LabNode, dice: random.Random) -> list[str]:
    """Stop or remove one to three parts of the pod; what was done."""
    endpoint = node.containerd.endpoint
    parts = [
        *(
            (method, one.id)
            for one in sandboxes.list_containers(endpoint)
            for method in ("StopContainer", "RemoveContainer")
        ),
        *(
            (method, one.id)
            for one in sandboxes.list_sandboxes(endpoint)
            for method in ("StopPodSandbox", "RemovePodSandbox")
        ),
    ]
    chosen = dice.sample(parts, min(len(parts), dice.randint(1, 3)))
    return [method for method, target in chosen if sandboxes.meddle(endpoint, method, target)]


@pytest.mark.parametrize("binaries", ["2.x"], indirect=True, scope="session")
@pytest.mark.timeout(900)
def test_whatever_is_there_the_end_is_the_same(node: LabNode, gate: CriGate) -> None:
    dice = random.Random(5)  # noqa: S311 - a sample that is the same each time
    node.agent_flags.append(f"--node-ip={NODE_IP}")
    for sample in range(SAMPLES):
        node.start_agent()
        path = node.put_pod(dice.choice((two_containers, sidecar_and_hook))())
        die_within(node, gate, dice.randint(1, 5))
        done = meddle(node, dice)
        node.start_agent()
        node.wait(lambda: is_whole(node), f"sample {sample}: the pod to be whole again after {done}", 240)
        node.kill_agent()
        gate.reset()
        node.start_agent()
        node.wait_ready("web")
        assert [call.method for call in gate.mutating()] == [], f"sample {sample}: {done}"
        path.unlink()
        die_within(node, gate, dice.randint(1, 4))
        done = meddle(node, dice)
        node.start_agent()
        node.wait(lambda: not node.left_behind(), f"sample {sample}: nothing to be left after {done}", 240)
        node.wait(lambda: not list((node.root_dir / "records").iterdir()), "the records to be gone")
        node.kill_agent()
