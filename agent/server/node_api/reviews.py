"""Asks the API server who a token belongs to and what a user may do, and remembers the answers.  I/O.

Before: `server` has a request.  Next: it is carried out, or refused.  An API server that does not answer is no yes: a
token is then not known, and what a user may do cannot be said; what was answered before counts as long as it may.
Sources: API types TokenReview and SubjectAccessReview; KubeletConfiguration `authentication`, `authorization`.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from agent.config_server import ServerConfig
from agent.server.node_api.caller import Caller, caller_of_review
from agent.server.node_api.paths import Need
from agent.server.node_api.ttl_cache import TtlCache
from kube_client.errors import ApiError, MalformedError
from kube_client.messages import decode_object

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 # a path
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
MAX_TOKEN_BYTES = 16 << 10
_TOKENS, _VERDICTS = 1000, 4000
_log = logging.getLogger(__name__)


class Reviewer(Protocol):
    """What asks an API server."""

    async def send(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> bytes:
        """The body of a good answer.  Raises ApiError."""
        ...


class _User(msgspec.Struct):
    username: str | None = None
    uid: str | None = None
    groups: list[str] | None = None
    extra: dict[str, list[str]] | None = None


class _Status(msgspec.Struct):
    authenticated: bool | None = None
    user: _User | None = None
    allowed: bool | None = None
    denied: bool | None = None


class _Review(msgspec.Struct):
    """What of either review is used."""

    status: _Status


class ReviewError(Exception):
    """The API server has not said whether the user may."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    allowed: bool


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller | None


class Reviews:
    """One for the server; `node_name` is the Node that everything here is about."""

    def __init__(
        self,
        client: Reviewer,
        config: ServerConfig,
        node_name: str,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._config = config
        self._node_name = node_name
        self._now_s = now_s
        self._tokens: TtlCache[bytes, _Known] = TtlCache(_TOKENS)
        self._verdicts: TtlCache[tuple[Caller, str, str], _Verdict] = TtlCache(_VERDICTS)

    async def caller_of_token(self, token: str) -> Caller | None:
        """The user, None for a token that nobody knows and while nobody can say."""
        if not self._config.token_review or not token or len(token) > MAX_TOKEN_BYTES:
            return None
        digest = hashlib.sha256(token.encode()).digest()  # the token itself is kept nowhere
        known = self._tokens.get(digest, self._now_s())
        if known is None:
            try:
                status = await self._ask(TOKEN_REVIEWS, "authentication.k8s.io/v1", "TokenReview", {"token": token})
            except ApiError as error:
                _log.warning("cannot have a token reviewed: %s", error)
                return None
            known = _Known(caller_of_review(status.get("user") or {}) if status.get("authenticated") is True else None)
            self._tokens.put(digest, known, self._now_s() + self._config.token_ttl_s)
        return known.caller

    async def may(self, caller: Caller, need: Need) -> bool:
        """Whether one of the subresources is allowed.  Raises ReviewError while that cannot be said."""
        if self._config.always_allow:
            return True
        for subresource in need.subresources:
            if await self._may(caller, need.verb, subresource):
                return True
        return False

    async def _may(self, caller: Caller, verb: str, subresource: str) -> bool:
        key = (caller, verb, subresource)
        known = self._verdicts.get(key, self._now_s())
        if known is None:
            attributes = {
                "verb": verb,
                "version": "v1",
                "resource": "nodes",
                "subresource": subresource,
                "name": self._node_name,
            }
            spec: dict[str, Any] = {"user": caller.name, "resourceAttributes": attributes}
            if caller.groups:
                spec["groups"] = list(caller.groups)
            if caller.uid:
                spec["uid"] = caller.uid
            if caller.extra:
                spec["extra"] = {name: list(values) for name, values in caller.extra}
            try:
                status = await self._ask(ACCESS_REVIEWS, "authorization.k8s.io/v1", "SubjectAccessReview", spec)
            except ApiError as error:
                raise ReviewError(str(error)) from None
            known = _Verdict(status.get("allowed") is True and status.get("denied") is not True)
            ttl_s = self._config.allowed_ttl_s if known.allowed else self._config.denied_ttl_s
            self._verdicts.put(key, known, self._now_s() + ttl_s)
        return known.allowed

    async def _ask(self, path: str, version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        body = msgspec.json.encode({"apiVersion": version, "kind": kind, "spec": spec})
        answer = await self._client.send("POST", path, body, "application/json")
        try:
            status: dict[str, Any] = msgspec.to_builtins(decode_object(answer, _Review).status)
        except (ValueError, RecursionError) as error:  # what msgspec raises is one, and so is a UnicodeDecodeError
            raise MalformedError(f"cannot read the answer to a {kind}: {error}") from None
        return status
