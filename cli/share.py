"""`longshore control-plane upload-certs`: what another control plane needs of this one; and tokens.

Before: `cli.control_plane`, of which this is a command.  Next: `longshore join --control-plane` on the other machine.
Effects: a Secret, a ConfigMap and who may read them; prints the command.
"""

from __future__ import annotations

import dataclasses
import datetime

import click

from cli import api
from cli.cluster import Cluster, ClusterOptions, pass_options, shows_failures
from cli.failure import Failure
from cli.token import join_command, make_token
from control_plane.errors import ControlPlaneError
from control_plane.sharing import SHARED, new_certificate_key, parse_certificate_key, shared_objects

_SHARED_FOR = datetime.timedelta(hours=2)


@click.command("upload-certs")
@pass_options
@shows_failures
def upload_certs(options: ClusterOptions) -> None:
    """Share the authorities with control planes to come, and print the command by which one joins.

    Encrypted with a key that only the command holds, for two hours; whoever has the command has the cluster. Needs
    --control-plane-endpoint, by which the cluster is reached whichever of them is away.
    """
    cluster = options.open()
    settings = cluster.settings
    if not settings.control_plane_endpoint:
        fix = "longshore up --control-plane --control-plane-endpoint HOST:PORT, and what it says is to be renewed"
        raise Failure(f"cannot share the certificates: the cluster has no endpoint that outlives this machine; {fix}")
    files = {name: _read(cluster, name) for name in SHARED}
    token, secret = make_token(cluster, _SHARED_FOR)
    key = new_certificate_key()
    owner = {name: secret["metadata"][name] for name in ("name", "uid")}
    objects = shared_objects(files, dataclasses.asdict(settings), parse_certificate_key(key), owner)
    administrator = api.access(cluster.places.kubeconfig("admin"))
    for path, value in objects.items():
        api.apply(administrator, path, value)
    click.echo(f"{join_command(cluster, token)} --control-plane --certificate-key {key}")


def _read(cluster: Cluster, name: str) -> bytes:
    data = cluster.files.read(cluster.places.pki / name)
    if data is None:
        raise ControlPlaneError(f"cannot share the certificates: {cluster.places.pki / name} is missing")
    return data
