"""A load balancer in front of API servers, as a static pod of haproxy: its configuration and its manifest.  Pure.

Before: `longshore control-plane load-balancer` knows the API servers.  Next: the agent runs it, with no API server yet.
TLS goes through untouched; an API server that does not say /readyz gets no new connections, and loses those it has.
Source: kubeadm's "Options for Software Load Balancing"; https://docs.haproxy.org/2.6/configuration.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
NAME = "haproxy"
IMAGE = "docker.io/library/haproxy:3.0"
_IN_POD = "/usr/local/etc/haproxy/haproxy.cfg"
_CONFIG = """# Made by longshore control-plane load-balancer, which makes it anew when it is run again.
global
    log stdout format raw local0

defaults
    log global
    mode tcp
    option dontlognull
    option redispatch 1
    retries 3
    timeout connect 3s
    timeout check 3s
    timeout client 5m
    timeout server 5m
    # A watch may be silent for long.
    timeout tunnel 4h

frontend apiserver
    bind {bind}
    default_backend apiserver

backend apiserver
    balance roundrobin
    option httpchk
    http-check send meth GET uri /readyz
    http-check expect status 200
    default-server check check-ssl verify none inter 2s fastinter 500ms downinter 2s fall 2 rise 2 {lost}
"""
_LOST = "on-marked-down shutdown-sessions"


def haproxy_config(bind: str, servers: Sequence[str]) -> bytes:
    """`bind`: ADDRESS:PORT; `servers`: URLs of API servers."""
    lines = [
        f"    server apiserver-{number} {urlsplit(server).netloc}\n" for number, server in enumerate(servers, start=1)
    ]
    return (_CONFIG.format(bind=bind, lost=_LOST) + "".join(lines)).encode()


def haproxy_pod(bind: str, image: str, file: Path, config: bytes) -> Json:
    """The static pod; `file` is where `config` is on the host, and another content of it makes another pod."""
    address, _, port = bind.rpartition(":")
    host = address.strip("[]")
    probe = {
        "tcpSocket": {
            "host": {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}.get(host, host),
            "port": int(port),
        }
    }
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["haproxy", "-db", "-f", _IN_POD],
        "livenessProbe": {**probe, "failureThreshold": 8, "periodSeconds": 10, "timeoutSeconds": 15},
        "readinessProbe": {**probe, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "25m", "memory": "32Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": _IN_POD, "readOnly": True}],
    }
    metadata = {
        "name": NAME,
        "namespace": "kube-system",
        "labels": {"component": NAME, "tier": "control-plane"},
        "annotations": {"longshore/config-sha256": hashlib.sha256(config).hexdigest()},
    }
    spec = {
        "containers": [container],
        "hostNetwork": True,
        "priority": 2000001000,
        "priorityClassName": "system-node-critical",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "config", "hostPath": {"path": str(file), "type": "File"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
