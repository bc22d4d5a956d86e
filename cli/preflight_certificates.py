"""Whether the certificates of a control plane on this machine can be used, and for how long.  I/O, changes nothing.

Before: `cli.check`.  Next: it prints the finding.  A node that has joined renews its own and is not asked.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from cli.cluster import SOON, all_states, open_cluster
from cli.failure import Failure
from cli.preflight import Finding
from cli.target import Target
from control_plane.errors import ControlPlaneError
from control_plane.record import Record
from control_plane.settings import ETCD
from control_plane.x509 import day

_RENEW = "longshore control-plane certs renew"


def certificate_findings(target: Target, kubernetes_dir: Path) -> Iterator[Finding]:
    """One, where longshore has made a control plane."""
    try:
        if not Record(kubernetes_dir.absolute()).settings:
            return
        cluster = open_cluster(target, {"kubernetes_dir": kubernetes_dir})
    except (ControlPlaneError, Failure) as error:
        yield Finding("certificates", ok=False, detail=str(error))
        return
    if cluster.places.manifest(ETCD) not in cluster.files.record.made:
        return
    states = all_states(cluster)
    wrong = [state for state in states if state.problem]
    if wrong:
        yield Finding("certificates", ok=False, detail=wrong[0].problem, fix="longshore control-plane certs show")
        return
    first, expires = min(((one, one.expires) for one in states if one.expires), key=lambda pair: pair[1])
    detail = f"the first to expire is {first.name}, on {day(expires)}"
    soon = expires - datetime.datetime.now(datetime.UTC) < SOON
    yield Finding("certificates", ok=None if soon else True, detail=detail, fix=f"{_RENEW} --restart" if soon else "")
