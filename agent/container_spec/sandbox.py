"""Pod -> PodSandboxConfig: the message that makes the pod's sandbox.

Pure.  Before: admission, facts from agent/node and agent/cgroups.  Next: agent/pods/execute calls RunPodSandbox with
it and gives the same message again with each CreateContainer.
"""

from __future__ import annotations

from lightkube.models import core_v1

from agent.container_spec import labels
from agent.container_spec.dns import kernel_hostname, pod_dns
from agent.container_spec.facts import SpecError, SpecFacts
from agent.container_spec.paths import pod_log_dir
from agent.container_spec.resizable import pod_digest
from agent.container_spec.resources import sandbox_overhead, sandbox_resources
from agent.container_spec.security import sandbox_security
from cri_client import types as cri


def sandbox_config(pod: core_v1.Pod, attempt: int, facts: SpecFacts) -> cri.PodSandboxConfig:
    """The sandbox of a pod; `attempt` counts its sandboxes from 0.  Raises SpecError."""
    metadata, spec = pod.metadata, pod.spec
    if metadata is None or spec is None:
        raise SpecError("cannot make a sandbox of a pod without metadata and spec")
    name, namespace, uid = metadata.name or "", metadata.namespace or "", metadata.uid or ""
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=uid, namespace=namespace, attempt=attempt),
        hostname="" if spec.hostNetwork else kernel_hostname(pod, facts),
        log_directory=pod_log_dir(facts.pod_logs_dir, namespace, name, uid),
        dns_config=pod_dns(pod, facts),
        port_mappings=port_mappings(pod),
        labels={**(metadata.labels or {}), **labels.pod_labels(pod)},
        annotations={**(metadata.annotations or {}), labels.RESOURCES: pod_digest(pod)},
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=facts.cgroup_parent,
            security_context=sandbox_security(pod, facts.user_range),
            sysctls=_sysctls(spec),
            overhead=sandbox_overhead(pod, facts),
            resources=sandbox_resources(pod, facts),
        ),
    )


def port_mappings(pod: core_v1.Pod) -> tuple[cri.PortMapping, ...]:
    """Every container port, also those without a host port; the runtime's CNI plugin decides by hostPort."""
    mappings: list[cri.PortMapping] = []
    for container in pod.spec.containers if pod.spec else []:
        seen: set[str] = set()
        for port in container.ports or []:
            key = port.name or f"{port.protocol}-{port.hostIP}:{port.containerPort}:{port.hostPort}"
            if key not in seen:
                seen.add(key)
                mappings.append(
                    cri.PortMapping(
                        protocol=cri.Protocol[port.protocol or "TCP"],
                        container_port=port.containerPort,
                        host_port=port.hostPort or 0,
                        host_ip=port.hostIP or "",
                    )
                )
    return tuple(mappings)


def _sysctls(spec: core_v1.PodSpec) -> dict[str, str]:
    context = spec.securityContext
    return {entry.name.replace("/", "."): entry.value for entry in (context.sysctls if context else None) or []}
