"""`longshore join --control-plane`: this machine becomes one more control plane of a cluster.

Before: `longshore control-plane upload-certs` on one that is there has printed the command.  Next: `cli.up.bring_up`,
as on the first.  Effects: writes the shared authorities, then remembers whose control plane this is: cut off before,
the command is given again; after, `longshore up --control-plane` would do as well.  Source: kubeadm join
--control-plane, https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/high-availability/.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from cli import api
from cli.cluster import Cluster, open_cluster
from cli.control_plane_output import print_made
from cli.discovery import Discovered, credentials, discover, refuse_taken_name
from cli.failure import Failure
from cli.target import Target
from cli.up import bring_up, lacks_certificates, refuse_obstacles
from control_plane.errors import ControlPlaneError
from control_plane.files import PUBLIC, Content
from control_plane.settings import JOINING
from control_plane.sharing import CONFIG, SECRET, open_certificates, parse_certificate_key, shared_settings

Directories = tuple[Path, Path, Path]


def join_control_plane(
    target: Target,
    server: str,
    token: str | None,
    certificate_key: str | None,
    options: Mapping[str, Any],
    *,
    pins: tuple[str, ...],
    trusted: bool,
    directories: Directories,
    timeout_s: int,
) -> None:
    """`options`: this machine's of `open_cluster`; `directories`: as `bring_up` wants them.

    Raises Failure, ControlPlaneError, UsageError.
    """
    cluster = open_cluster(target, options)
    deadline_s = time.monotonic() + timeout_s
    _refuse(cluster)
    if lacks_certificates(cluster) or not cluster.settings.etcd_cluster:
        token = credentials(token, trusted=trusted)
        if not certificate_key:
            raise click.UsageError("say --certificate-key: longshore control-plane upload-certs prints it")
        key = parse_certificate_key(certificate_key)
        found = discover(server, token, pins, cluster.pki.now, deadline_s)
        cluster = _take_over(cluster, target, options, found, token, key, directories[0])
    else:
        refuse_obstacles(cluster, directories[0])
        cluster.remember()
    bring_up(cluster, target, *directories, deadline_s)


def _refuse(cluster: Cluster) -> None:
    """Raises Failure, ControlPlaneError."""
    if os.geteuid() != 0:
        raise Failure("cannot join: not root; run it with sudo")
    kubelet, admin = (cluster.places.kubeconfig(name) for name in ("kubelet", "admin"))
    if not cluster.settings.etcd_cluster and (kubelet.exists() or admin.exists()):
        raise Failure(
            f"cannot join: {cluster.places.kubernetes_dir} is that of a node of a cluster; longshore down first"
        )


def _take_over(
    cluster: Cluster,
    target: Target,
    options: Mapping[str, Any],
    found: Discovered,
    token: str,
    key: bytes,
    config_dir: Path,
) -> Cluster:
    """The authorities and settings that all control planes share.  Raises Failure, ControlPlaneError."""
    access = found.access(token)
    if not cluster.settings.etcd_cluster:
        refuse_taken_name(access, cluster.settings.node_name)
    try:
        secret, config = (json.loads(api.get(access, path)) for path in (SECRET, CONFIG))
    except Failure as failure:
        fix = "longshore control-plane upload-certs on a control plane shares the certificates for two hours"
        raise Failure(f"cannot join: {failure.message}; {fix}", failure.exit_code) from None
    shared = open_certificates(secret, key)
    if shared["ca.crt"].strip() != found.ca.strip():
        raise ControlPlaneError(f"cannot join: the shared authority is another than that of {found.server}")
    settings = {**shared_settings(config), **options, "etcd_cluster": JOINING}
    cluster = open_cluster(target, settings)
    refuse_obstacles(cluster, config_dir)
    wanted = {}
    for name, data in shared.items():
        public = name.endswith((".crt", ".pub"))
        wanted[cluster.places.pki / name] = Content(data, PUBLIC) if public else Content(data)
    for path, content in wanted.items():
        cluster.files.check_free(path, content.data)
    cluster.remember()  # from here on no other command takes this machine for the first of a cluster
    # Keys first: an authority without one would be taken for damaged.
    print_made(cluster.files.write(dict(sorted(wanted.items(), key=lambda item: item[1].mode))))
    return cluster
