"""Asks the cluster for a client certificate and waits until somebody has approved and signed it.  I/O.

Before: `bootstrap` (with a token) or `rotation` (with the certificate that ends).  Next: the new one is in force.  A
person, or the controller that approves nodes, decides; until then the request waits and is looked at now and then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from agent.cluster.certificates import REQUESTS, RequestShape, outcome, signing_request
from agent.cluster.client_certificate import CertificateError, CertificateFiles
from agent.cluster.own_node import Json, read_object
from agent.cluster.protocols import Api
from agent.cluster.requests import JSON
from kube_client.errors import StatusError

_log = logging.getLogger(__name__)
_FIRST_PAUSE_S, _MAX_PAUSE_S, _PATIENCE_S = 0.5, 10.0, 15 * 60.0
_NOT_FOUND, _CONFLICT = 404, 409


async def renew(api: Api, files: CertificateFiles, node_name: str, tell: Callable[[str], None]) -> None:
    """Put a new certificate into `files`; `tell` is told what is waited for.

    Raises ApiError, CertificateError, OSError.
    """
    made = await files.request(node_name)
    body = signing_request(made["digest"], made["request"])
    name = body["metadata"]["name"]
    found = await _create(api, body, f"{REQUESTS}/{name}")
    try:
        files.put(await _await_certificate(api, found, name, tell), made["key"].encode())
    except CertificateError:
        files.forget_waiting()
        raise
    _log.info("the client certificate of node %s is new: %s", node_name, files.current)


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
