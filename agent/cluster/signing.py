"""Asks the cluster for a certificate and waits until somebody has approved and signed it.  I/O.

Before: `enrolment` (with a token, or with the certificate that ends) or `serving`.  Next: the new one is in force.  A
person, or the controller that approves nodes, decides; until then the request waits and is looked at now and then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from agent.cluster.certificate_files import CertificateError, CertificateFiles
from agent.cluster.certificates import REQUESTS, RequestShape, outcome, signing_request
from agent.cluster.counts import ClusterCounts
from agent.cluster.own_node import Json, read_object
from agent.cluster.protocols import Api
from agent.cluster.requests import JSON
from kube_client.errors import ApiError, StatusError

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S, _MAX_PAUSE_S, _PATIENCE_S = 0.5, 10.0, 15 * 60.0
_FIRST_RETRY_S, MAX_RETRY_S = 2.0, 300.0
BETWEEN_TWO_S = 60.0
"""By a clock that is wrong every new certificate is old; the cluster is not to make one after the other."""
_LOOK_AT_THE_CLOCK_S = 600.0
"""A sleep does not see that the clock was set."""
_NOT_FOUND, _CONFLICT = 404, 409


async def until_renewed(
    api: Api,
    files: CertificateFiles,
    node_name: str,
    tell: Callable[[str], None],
    names: Sequence[str] = (),
    *,
    counts: ClusterCounts,
) -> None:
    """As `renew`, again and again until it is done; `tell` is told what is waited for, "" in the end."""
    pause_s, said = _FIRST_RETRY_S, ""
    while True:
        try:
            await renew(api, files, node_name, tell, names)
        except (ApiError, CertificateError, OSError) as error:
            if str(error) != said:
                said = str(error)
                _log.error("%s; trying again", said)
            tell(said)
            counts.renewals_failed[files.purpose.name] += 1
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_RETRY_S, 2 * pause_s)
        else:
            tell("")
            return


async def until(at_s: float) -> None:
    """Until the clock says so (Unix time)."""
    while (left_s := at_s - time.time()) > 0:  # noqa: ASYNC110 - nobody tells when the clock is set
        await asyncio.sleep(min(left_s, _LOOK_AT_THE_CLOCK_S))


async def renew(
    api: Api, files: CertificateFiles, node_name: str, tell: Callable[[str], None], names: Sequence[str] = ()
) -> None:
    """Put a new certificate into `files`, a server's for these `names`; `tell` is told what is waited for.

    Raises ApiError, CertificateError, OSError.
    """
    made = await files.request(node_name, names)
    body = signing_request(files.purpose, made["digest"], made["request"])
    name = body["metadata"]["name"]
    found = await _create(api, body, f"{REQUESTS}/{name}")
    try:
        files.put(await _await_certificate(api, found, name, tell), made["key"].encode())
    except CertificateError:
        files.forget_waiting()
        raise
    _log.info("the %s certificate of node %s is new: %s", files.purpose.name, node_name, files.current)


async def _create(api: Api, body: Json, path: str) -> Json:
    try:
        return read_object(await api.send("POST", REQUESTS, msgspec.json.encode(body), JSON), RequestShape)
    except StatusError as error:
        if error.status != _CONFLICT:
            raise
        return read_object(await api.get(path), RequestShape)  # asked by an agent before us, which was killed


async def _await_certificate(api: Api, found: Json, name: str, tell: Callable[[str], None]) -> bytes:
    pause_s = _FIRST_PAUSE_S
    end_s = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        now = outcome(found)
        if now.refusal:
            raise CertificateError(f"cannot get a certificate: request {name} was answered with {now.refusal}")
        if now.certificate:
            return now.certificate
        if asyncio.get_running_loop().time() > end_s:
            raise CertificateError(f"cannot get a certificate: nobody has approved request {name} in 15 minutes")
        tell(f"waiting for certificate signing request {name} to be approved: kubectl certificate approve {name}")
        await asyncio.sleep(pause_s)
        pause_s = min(_MAX_PAUSE_S, 1.5 * pause_s)
        try:
            found = read_object(await api.get(f"{REQUESTS}/{name}"), RequestShape)
        except StatusError as error:
            if error.status != _NOT_FOUND:
                raise
            raise CertificateError(f"cannot get a certificate: request {name} was deleted") from None
