"""What has to be known before anything is written, and which Services wait for it.  Pure.

Before: the sources put their newest pictures.  Next: `proxy.sync` resolves what may be written.
"""

from __future__ import annotations

from proxy.routes import ServiceProblem
from proxy.services import ServiceFacts
from proxy.sources.agent_pods import AgentView
from proxy.sources.api_server import ApiView
from proxy.sources.directory import DirectoryState


def sources_missing(
    directory: DirectoryState | None, api: ApiView, agent: AgentView, waits_for_agent: bool
) -> tuple[str, ...]:
    """Who has not spoken yet; () once everybody has: only the first sync waits, what is known stays known."""
    if directory is None:
        return ("the manifest directory",)
    if not directory.listed:
        return (directory.problem or "the manifest directory",)
    if api.waiting_for:
        return api.waiting_for
    if agent.pods is not None or not waits_for_agent:
        return ()
    wanting = [service for service in directory.services if service.needs_pods]
    if not wanting:
        return ()
    cause = f" ({agent.error})" if agent.error else ""
    return (f"the agent's pods{cause}, wanted by {len(wanting)} services with a selector",)


def ready_services(
    services: tuple[ServiceFacts, ...], agent: AgentView, has_agent: bool
) -> tuple[tuple[ServiceFacts, ...], tuple[ServiceProblem, ...]]:
    """Leave services with a selector out while nobody has told of any pod: empty is not the same as unknown."""
    held = [service for service in services if service.needs_pods] if agent.pods is None else []
    if not held:
        return services, ()
    cause = "waits for the agent's pods" if has_agent else "needs the agent's pods, set --agent-socket"
    problems = [ServiceProblem(s.namespace, s.name, "spec.selector", cause, s.source) for s in held]
    return tuple(service for service in services if not service.needs_pods), tuple(problems)
