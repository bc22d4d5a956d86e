"""`longshore control-plane load-balancer`: one address in front of several API servers, by a static pod of haproxy.

Before: the agent runs; a cluster need not be there yet.  Next: --control-plane-endpoint, or `longshore join`, names the
address.  Effects: writes haproxy.cfg and the manifest; `longshore down` takes both away.
"""

from __future__ import annotations

import ipaddress

import click

from cli.cluster import ClusterOptions, pass_options, shows_failures
from cli.control_plane_output import print_made
from cli.discovery import urls
from cli.failure import Failure
from control_plane.files import PUBLIC, Content
from control_plane.haproxy import IMAGE, NAME, haproxy_config, haproxy_pod
from control_plane.manifest_files import render_manifest

_BIND = "127.0.0.1:7443"


@click.command("load-balancer")
@click.argument("servers", nargs=-1, required=True, metavar="SERVER...")
@click.option("--bind", default=_BIND, show_default=True, help="ADDRESS:PORT to listen at.")
@click.option("--image", default=IMAGE, show_default=True, help="Of haproxy, 2.6 or later.")
@pass_options
@shows_failures
def load_balancer(options: ClusterOptions, servers: tuple[str, ...], bind: str, image: str) -> None:
    """Write a static pod of haproxy that leads to the API servers, such as https://10.0.0.1:6443.

    On loopback for this node alone, which then joins https://127.0.0.1:7443; or on an address of this machine for all
    of the cluster. Run it again to change the API servers.
    """
    given = [url for one in servers for url in urls(one)]
    if plain := [url for url in given if not url.startswith("https://")]:
        raise Failure(f"cannot balance {plain[0]}: it is not https")
    _check_bind(bind)
    cluster = options.open()
    file = cluster.places.kubernetes_dir / NAME / f"{NAME}.cfg"
    config = haproxy_config(bind, given)
    manifest = render_manifest(haproxy_pod(bind, image, file, config))
    wanted = {file: Content(config, PUBLIC), cluster.places.manifest(NAME): Content(manifest)}
    for path, content in wanted.items():
        cluster.files.check_free(path, content.data)
    print_made(cluster.files.write(wanted))


def _check_bind(bind: str) -> None:
    host, _, port = bind.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
        good = port.isascii() and 0 < int(port) < 65536 and (":" in host) == host.startswith("[")
    except ValueError:
        good = False
    if not good:
        raise Failure(f"cannot listen at --bind {bind!r}: it is not ADDRESS:PORT such as {_BIND}")
