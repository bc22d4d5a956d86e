"""Manifests of the lab's own pods and Services, and putting them into a watched directory.

Before: tests and demo. Next: the agent's and the proxy's directory watchers. `web_pod`, `web_service` and `is_ready`
are pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.images import WEB_IMAGE
from lab.machine import LabError

Json = dict[str, Any]


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a Pod object has the Ready condition and is not on its way out."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def web_pod(name: str, *, image: str = WEB_IMAGE, labels: Mapping[str, str] | None = None) -> Json:
    """A pod that answers HTTP on 8080 with its own name, with a readiness probe that looks each second."""
    container: Json = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "Never",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 10},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 5}
    metadata = {"name": name, "namespace": "default", "labels": dict(labels or {"app": "web"})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def web_service(name: str, cluster_ip: str, *, port: int = 80, selector: Mapping[str, str] | None = None) -> Json:
    """A ClusterIP Service in front of `web_pod`s."""
    ports = [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}]
    spec = {"clusterIP": cluster_ip, "selector": dict(selector or {"app": "web"}), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def put_manifest(directory: Path, manifest: Mapping[str, Any] | str, file_name: str | None = None) -> Path:
    """Write a manifest (a mapping, or text with a `file_name`) into `directory`, atomically; its path."""
    text = manifest if isinstance(manifest, str) else yaml.safe_dump(dict(manifest), sort_keys=False)
    if file_name is None:
        if isinstance(manifest, str):
            raise LabError("cannot name a manifest given as text: pass file_name")
        file_name = f"{manifest['metadata']['name']}.yaml"
    path = directory / file_name
    # A dot file is never read as a manifest, and a rename is one event.
    fresh = directory / f".{file_name}.new"
    fresh.write_text(text)
    fresh.rename(path)
    return path
