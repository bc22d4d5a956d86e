"""Single requests to an API server by commands. I/O.

Before: a kubeconfig that `control_plane` has made, or an address that a person has named. Next: the command shows or
waits.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cli.failure import NOT_FOUND, UNREACHABLE, Failure
from kube_client.config import ApiConfig, ConfigError
from kube_client.kubeconfig import read_kubeconfig

Json = dict[str, Any]
_ANSWER_S = 5.0
_NOT_FOUND = 404
_APPLY = {"fieldManager": "longshore", "force": "true"}


def access(kubeconfig: Path, server: str = "") -> ApiConfig:
    """With the credentials of a file, to its server or to another. Raises Failure."""
    try:
        found = read_kubeconfig(kubeconfig)
    except ConfigError as error:
        raise Failure(str(error)) from None
    return dataclasses.replace(found, servers=(server,)) if server else found


def get(api: ApiConfig, path: str, parameters: Mapping[str, str] | None = None) -> bytes:
    """Raises Failure; its exit status is NOT_FOUND where there is no such object."""
    return _send(api, "GET", path, b"", "", parameters or {})


def delete(api: ApiConfig, path: str) -> None:
    """Raises Failure as `get`."""
    _send(api, "DELETE", path, b"", "", {})


def look(api: ApiConfig, path: str) -> bytes | None:
    """None where there is no good answer."""
    try:
        return get(api, path)
    except Failure:
        return None


def merge(api: ApiConfig, path: str, value: Json) -> None:
    """A JSON merge patch. Raises Failure."""
    _send(api, "PATCH", path, msgspec.json.encode(value), "application/merge-patch+json", {})


def apply(api: ApiConfig, path: str, value: Json) -> None:
    """Server-side apply: makes the object, or these fields of it so. Raises Failure."""
    _send(api, "PATCH", path, msgspec.json.encode(value), "application/apply-patch+yaml", _APPLY)


def _send(
    api: ApiConfig, method: str, path: str, body: bytes, content_type: str, parameters: Mapping[str, str]
) -> bytes:
    from kube_client.client import KubeClient  # late: aiohttp
    from kube_client.errors import ApiError

    async def send() -> bytes:
        async with KubeClient(api, "longshore", answer_s=_ANSWER_S) as client:
            return await client.send(method, path, body, content_type, parameters)

    try:
        return asyncio.run(send())
    except (ApiError, TimeoutError) as error:
        code = NOT_FOUND if isinstance(error, ApiError) and error.status == _NOT_FOUND else UNREACHABLE
        raise Failure(str(error) or f"cannot {method.lower()} {path}: no answer in time", code) from None
    except ConfigError as error:
        raise Failure(str(error)) from None
