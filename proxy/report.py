"""What the proxy tells people and tools, as JSON values.  Pure.

Before: the pictures `proxy.sync` holds.  Next: `proxy.local_api` serves them, `longshore services` prints them.

`GET /v1/services`:
    {"services": [{"namespace", "name", "source", "type": spec.type, "none" when not programmed,
                   "clusterIP", "clusterIPs": [...], "externalIPs": [...], "loadBalancerIPs": [...],
                   "loadBalancerSourceRanges": [...], "healthCheckNodePort": int, 0 = none, "selector": {...},
                   "sessionAffinityTimeoutSeconds": int|null, "internalTrafficPolicy", "externalTrafficPolicy",
                   "ports": [{"name", "protocol", "port", "targetPort", "nodePort", "programmed": bool,
                              "endpoints": [{"ip", "port", "local"}], "localEndpoints": [...]}],
                   "problems": [{"field", "message"}]}],
     "errors": [{"path", "field", "line", "message", "lastGood": bool}],
     "outOfDate": why the kernel does not hold this yet, "" when it does or when that has not failed}
`GET /v1/status`: see `status_report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.explain import Explanation, Question
from proxy.routes import Endpoint, PortName, RoutingTable, ServiceProblem, ServiceRoute
from proxy.services import ServiceFacts
from proxy.sources.agent_pods import AgentView
from proxy.sources.api_server import ApiView
from proxy.sources.directory import DirectoryState
from proxy.sync_status import SyncStatus

_NO_API = ApiView(waiting_for=())


def services_report(
    directory: DirectoryState | None,
    table: RoutingTable,
    status: SyncStatus | None = None,
    api: ApiView = _NO_API,
) -> dict[str, Any]:
    """All services with their routes and problems, and the files and objects that cannot be used."""
    state = directory or DirectoryState()
    routes: dict[PortName, list[ServiceRoute]] = {}
    for route in table.routes:
        routes.setdefault(route.name, []).append(route)
    problems: dict[tuple[str, str], list[ServiceProblem]] = {}
    for problem in table.errors:
        problems.setdefault((problem.namespace, problem.service), []).append(problem)
    services = sorted((*api.services, *state.services), key=lambda service: service.key)
    return {
        "services": [_service(service, routes, problems.get(service.key, [])) for service in services],
        "errors": [
            {
                "path": error.path,
                "field": error.field,
                "line": error.line,
                "message": error.message,
                "lastGood": last_good,
            }
            for error, last_good in (*api.problems, *state.errors)
        ],
        "outOfDate": status.last_error if status is not None and status.failures else "",
    }


def status_report(
    status: SyncStatus,
    directory: DirectoryState | None,
    agent: AgentView,
    facts: Mapping[str, Any],
    now_s: float,
    api: ApiView = _NO_API,
) -> dict[str, Any]:
    """One object: `facts` about the process, then what the loop waits for and how the last sync went.

    `now_s` is the clock of the times in `status`.
    """
    report = status.last_report
    return {
        **facts,
        "synced": status.synced_once and status.pending_since_s is None,
        "waitingFor": list(status.waiting_for),
        "pendingSeconds": None if status.pending_since_s is None else round(now_s - status.pending_since_s, 3),
        "lastSyncSecondsAgo": None if status.last_sync_s is None else round(now_s - status.last_sync_s, 3),
        "lastSync": None
        if report is None
        else {"changedChains": report.changed_chains, "full": report.full, "seconds": round(report.duration_s, 6)},
        "directory": {
            "problem": "the directory was not read yet" if directory is None else directory.problem,
            "files": 0 if directory is None else len(directory.files),
            "filesInError": 0 if directory is None else len(directory.errors),
        },
        "failures": status.failures,
        "lastError": status.last_error,
        "repairs": status.repairs,
        "drift": status.drift,
        "agent": {
            "connected": agent.connected,
            "pods": None if agent.pods is None else len(agent.pods),
            "error": agent.error,
        },
        "apiServer": {
            "connected": api.connected,
            "error": api.error,
            "services": len(api.services),
            "endpointSlices": len(api.slices),
            "objectsInError": len(api.problems),
        },
    }


def explanation_report(question: Question, answer: Explanation) -> dict[str, Any]:
    """The question, and what `proxy.explain` says: verdict, service, endpoints, masquerade, reasons."""
    return {
        "client": question.client,
        "address": question.address,
        "port": question.port,
        "protocol": question.protocol,
        "verdict": answer.verdict,
        "service": answer.service,
        "endpoints": _endpoints(answer.endpoints),
        "masquerade": answer.masquerade,
        "reasons": list(answer.reasons),
    }


def _service(
    service: ServiceFacts, routes: Mapping[PortName, list[ServiceRoute]], problems: list[ServiceProblem]
) -> dict[str, Any]:
    return {
        "namespace": service.namespace,
        "name": service.name,
        "source": service.source,
        "type": service.kind if service.is_programmed else "none",
        "clusterIP": service.cluster_ips[0] if service.is_programmed else "",
        "clusterIPs": list(service.cluster_ips),
        "externalIPs": list(service.external_ips),
        "loadBalancerIPs": list(service.load_balancer_ips),
        "loadBalancerSourceRanges": list(service.source_ranges),
        "healthCheckNodePort": service.health_check_node_port,
        "selector": dict(service.selector),
        "sessionAffinityTimeoutSeconds": service.affinity_timeout_s,
        "internalTrafficPolicy": "Local" if service.internal_local else "Cluster",
        "externalTrafficPolicy": "Local" if service.external_local else "Cluster",
        "ports": [
            {
                "name": port.name,
                "protocol": port.protocol,
                "port": port.port,
                "targetPort": port.target_port,
                "nodePort": port.node_port,
                **_programmed(
                    routes.get(PortName(service.namespace, service.name, port.name, port.protocol), []),
                    len(service.cluster_ips),
                ),
            }
            for port in service.ports
        ],
        "problems": [{"field": problem.field, "message": problem.message} for problem in problems],
    }


def _programmed(routes: list[ServiceRoute], families: int) -> dict[str, Any]:
    """Of all IP families together; `programmed` means in each of them."""
    return {
        "programmed": bool(routes) and len(routes) == families,
        "endpoints": [endpoint for route in routes for endpoint in _endpoints(route.endpoints)],
        "localEndpoints": [endpoint for route in routes for endpoint in _endpoints(route.local_endpoints)],
    }


def _endpoints(endpoints: tuple[Endpoint, ...]) -> list[dict[str, Any]]:
    return [{"ip": endpoint.ip, "port": endpoint.port, "local": endpoint.local} for endpoint in endpoints]
