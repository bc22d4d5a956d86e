"""Small sandboxes and containers for tests."""

from cri_client import types as cri
from cri_client.fake import FakeRuntime
from cri_client.protocols import Runtime


def sandbox_config(name: str = "web", attempt: int = 0) -> cri.PodSandboxConfig:
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name, f"uid-{name}", "default", attempt),
        labels={"io.kubernetes.pod.uid": f"uid-{name}", "io.kubernetes.pod.name": name},
    )


def container_config(name: str = "main", attempt: int = 0, command: tuple[str, ...] = ()) -> cri.ContainerConfig:
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name, attempt),
        image=cri.ImageSpec("web:1"),
        command=command,
        labels={"io.kubernetes.container.name": name},
    )


async def started(runtime: Runtime, command: tuple[str, ...] = ()) -> tuple[str, str]:
    """Run a sandbox with one container; the ids of both."""
    sandbox = await runtime.run_pod_sandbox(sandbox_config())
    container = await runtime.create_container(sandbox, container_config(command=command), sandbox_config())
    await runtime.start_container(container)
    return sandbox, container


def state_of(fake: FakeRuntime, container_id: str) -> cri.ContainerState:
    return fake.containers[container_id].state
