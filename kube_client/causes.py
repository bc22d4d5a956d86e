"""Why a request failed, in words for a person.  Reads the answer's body, nothing else.

Before: `kube_client.client` has an answer that is no good one, or none.  Next: the text of its ApiError.
"""

from __future__ import annotations

import os

import aiohttp

from kube_client.errors import StatusError
from kube_client.messages import read_status

_MAX_ERROR_BYTES = 1 << 20


async def refusal(response: aiohttp.ClientResponse) -> StatusError:
    """What a status of 300 and more says."""
    if 300 <= response.status < 400:
        target = response.headers.get("Location", "nowhere")
        return StatusError(f"answers with a redirect to {target}, which is not followed", response.status)
    status = read_status(await response.content.read(_MAX_ERROR_BYTES))
    wait = response.headers.get("Retry-After", "")
    retry_after_s = float(wait) if wait.isascii() and wait.isdigit() else None
    said = status.message or f"answers {response.status} {response.reason}"
    if response.status == 401:
        said += "; our certificate or token is not accepted, it may be expired or of another cluster"
    return StatusError(said, response.status, status.reason or "", retry_after_s)


def cause_of(error: Exception) -> str:
    """What kept an answer from coming, or from coming whole."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        code = error.os_error.errno  # asyncio's own text says less
        return (os.strerror(code) if code else str(error.os_error)) or "the connection was cut"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the connection was cut"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
