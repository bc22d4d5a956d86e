"""metrics-server, which answers `kubectl top`: built from its Go module, made an image, and the objects that run it.
I/O.

Before: `lab.kubernetes_build` compiles, a cluster of `longshore up` runs. Next: `lab.demo_top` applies the objects.
They are what metrics-server documents, but for three things: it scrapes every ten seconds, the least it takes; it
trusts the authority of the cluster for the nodes' certificates; its first probe does not wait.
`python -m lab.metrics_server` builds ahead of time; where that fails it says why, and nobody needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.cache import cache_directory, cached
from lab.containerd import PrivateContainerd
from lab.images import Layer, docker_archive, import_archives
from lab.kubernetes_build import GoModule
from lab.machine import LabError

Json = dict[str, Any]
NAME = "metrics-server"
API_SERVICE = "v1beta1.metrics.k8s.io"
RESOLUTION_S = 10
_VERSION = "0.9.0"
_MODULE = "sigs.k8s.io/metrics-server"
_IMAGE = f"longshore.test/{NAME}:v{_VERSION}"
_PORT = 10250
_NAMESPACE = "kube-system"
_LABELS = {"k8s-app": NAME}
_RBAC, _RBAC_GROUP = "rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
_WRITABLE = "/certificates"
_AUTHORITY = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


def metrics_server_binary() -> Path:
    """Path of the program; built first when the cache has none (two to three minutes).  Raises LabError."""

    def build(place: Path, scratch: Path) -> None:
        print(f"building {NAME} {_VERSION} from its Go module: two to three minutes, once", flush=True)
        module = GoModule(scratch)
        module.require(_MODULE, _VERSION)
        module.build(place, [f"{_MODULE}/cmd/{NAME}"], f"-X k8s.io/client-go/pkg/version.gitVersion=v{_VERSION}")

    return cached(NAME, _VERSION, build)


def is_built() -> bool:
    """Whether `metrics_server_binary` answers at once."""
    return (cache_directory() / f"{NAME}-{_VERSION}").exists()


def load_metrics_server_image(containerd: PrivateContainerd) -> None:
    """Import it; made first when the cache has none."""

    def make(place: Path, _: Path) -> None:
        layer = Layer()
        layer.file(NAME, metrics_server_binary().read_bytes(), 0o755)
        place.write_bytes(docker_archive(_IMAGE, layer.finish(), [f"/{NAME}"], user="65534"))

    import_archives(containerd, [cached(f"image-{NAME}", _VERSION, make)], [_IMAGE])


def metrics_server_objects() -> list[Json]:
    """Everything that `kubectl apply` needs for it. Pure."""
    return [_account(), *_roles(), *_bindings(), _service(), _deployment(), _api_service()]


def _metadata(name: str = NAME, namespace: str = _NAMESPACE, **more: str) -> Json:
    made: Json = {"name": name, "labels": {**_LABELS, **more}}
    return {**made, "namespace": namespace} if namespace else made


def _account() -> Json:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata()}


def _roles() -> list[Json]:
    """What it may read, and who may read what it answers."""
    read = ["get", "list", "watch"]
    own = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": read},
    ]
    readers = {f"{_RBAC_GROUP}/aggregate-to-{role}": "true" for role in ("view", "edit", "admin")}
    answers = [{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": read}]
    return [
        {"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": metadata, "rules": rules}
        for metadata, rules in (
            (_metadata(f"system:{NAME}", ""), own),
            (_metadata("system:aggregated-metrics-reader", "", **readers), answers),
        )
    ]


def _bindings() -> list[Json]:
    """Its own role; the API server's word about who asks and what he may; whom requests come from."""
    subjects = [{"kind": "ServiceAccount", "name": NAME, "namespace": _NAMESPACE}]
    return [
        {
            "apiVersion": _RBAC,
            "kind": f"{kind}Binding",
            "metadata": _metadata(name, namespace),
            "roleRef": {
                "apiGroup": _RBAC_GROUP,
                "kind": kind.removeprefix("Cluster") if namespace else kind,
                "name": role,
            },
            "subjects": subjects,
        }
        for kind, name, namespace, role in (
            ("ClusterRole", f"system:{NAME}", "", f"system:{NAME}"),
            ("ClusterRole", f"{NAME}:system:auth-delegator", "", "system:auth-delegator"),
            ("Role", f"{NAME}-auth-reader", _NAMESPACE, "extension-apiserver-authentication-reader"),
        )
    ]


def _service() -> Json:
    port = {"name": "https", "port": 443, "targetPort": "https", "appProtocol": "https"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(),
        "spec": {"selector": _LABELS, "ports": [port]},
    }


def _api_service() -> Json:
    group, version = "metrics.k8s.io", "v1beta1"
    spec = {
        "group": group,
        "version": version,
        "service": {"name": NAME, "namespace": _NAMESPACE},
        "insecureSkipTLSVerify": True,  # its certificate signs itself
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    metadata = _metadata(API_SERVICE, "")
    return {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec}


def _deployment() -> Json:
    spec = {
        "serviceAccountName": NAME,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "containers": [_container()],
        "volumes": [{"name": "certificates", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": _LABELS}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(),
        "spec": {"selector": {"matchLabels": _LABELS}, "template": template},
    }


def _container() -> Json:
    return {
        "name": NAME,
        "image": _IMAGE,
        "imagePullPolicy": "Never",
        "args": [
            f"--cert-dir={_WRITABLE}",
            f"--secure-port={_PORT}",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-use-node-status-port",
            f"--kubelet-certificate-authority={_AUTHORITY}",
            f"--metric-resolution={RESOLUTION_S}s",
            f"--kubelet-request-timeout={RESOLUTION_S * 9 // 10}s",
        ],
        "ports": [{"name": "https", "containerPort": _PORT}],
        "readinessProbe": _probe("/readyz", 2),
        "livenessProbe": _probe("/livez", 10),
        "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "certificates", "mountPath": _WRITABLE}],
    }


def _probe(path: str, period_s: int) -> Json:
    return {"httpGet": {"path": path, "port": "https", "scheme": "HTTPS"}, "periodSeconds": period_s}


if __name__ == "__main__":
    try:
        print(metrics_server_binary())
    except LabError as error:
        print(f"kubectl top is left out: {error}")
