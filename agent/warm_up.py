"""Builds ahead of time what Python builds on first use, so that the first pod after a start is not the slow one.

Called once by `running`, after the pods that were there have been looked at. Decoders of the API types and of the CRI's
messages take some 45 ms the first time and under one after that. Pure: the pod here goes nowhere.
"""

from __future__ import annotations

from agent.container_spec.container import container_config
from agent.container_spec.facts import NodeFacts, SpecFacts
from agent.container_spec.sandbox import sandbox_config
from agent.pods.entry import pod_to_json, status_to_json
from agent.pods.observe import PodObservation
from agent.pods.status import StatusFacts, pod_status
from agent.sources.manifest import parse_static_pod
from cri_client import types as cri
from cri_client.convert import from_bytes, to_bytes

_POD = b"{apiVersion: v1, kind: Pod, metadata: {name: none}, spec: {containers: [{name: none, image: none}]}}"
_ANSWERS = (
    cri.ListPodSandboxResponse,
    cri.ListContainersResponse,
    cri.PodSandboxStatusResponse,
    cri.ContainerStatusResponse,
    cri.ImageStatusResponse,
)


def warm_up() -> None:
    """Take one pod through everything that computes between its file and the runtime."""
    pod = parse_static_pod(_POD, "/none.yaml", "none")
    facts = SpecFacts(node=NodeFacts(node_name="none"), root_dir="/none", pod_logs_dir="/none", cgroup_parent="/none")
    sandbox = sandbox_config(pod, 0, facts)
    if pod.spec is not None:
        container = container_config(pod, pod.spec.containers[0], 0, facts, {})
        to_bytes(cri.CreateContainerRequest("none", container, sandbox))
    to_bytes(cri.RunPodSandboxRequest(sandbox))
    for answer in _ANSWERS:
        from_bytes(answer, b"")
    status_to_json(pod_status(pod, PodObservation("none"), StatusFacts(0.0), None, 0.0))
    pod_to_json(pod, "none", "none", "none")
