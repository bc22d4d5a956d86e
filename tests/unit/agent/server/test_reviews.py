"""Who a caller is and what he may: how certificates, tokens and the answers of an API server are read and kept."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.config_server import ServerConfig
from agent.server.node_api.caller import (
    AUTHENTICATED,
    Caller,
    bearer_token,
    caller_of_certificate,
    caller_of_review,
)
from agent.server.node_api.paths import Need
from agent.server.node_api.reviews import ACCESS_REVIEWS, TOKEN_REVIEWS, Reviews
from kube_client.errors import UnreachableError

METRICS, LOG = Need("get", ("metrics",)), Need("get", ("log",))
YES = {"allowed": True}


@dataclass
class Said:
    """An API server that says the same to each question of a kind, or of a token who in `users` has it; the specs of
    what it was asked.
    """

    token: dict[str, Any] = field(default_factory=dict)
    access: dict[str, Any] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)
    away: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> bytes:
        if self.away:
            raise UnreachableError("cannot reach it: connection refused")
        spec = json.loads(body)["spec"]
        self.asked.append(spec)
        if user := self.users.get(spec.get("token", "")):
            return json.dumps({"status": {"authenticated": True, "user": {"username": user}}}).encode()
        return json.dumps({"status": {TOKEN_REVIEWS: self.token, ACCESS_REVIEWS: self.access}[path]}).encode()


def reviews_of(client: Any, clock: list[float] | None = None, **config: Any) -> Reviews:
    return Reviews(client, ServerConfig(**config), "node-1", lambda: clock[0] if clock else 0.0)


def test_a_certificate_counts_from_its_first_moment_and_must_name_a_user() -> None:
    found = {
        "subject": ((("organizationName", "system:masters"),), (("commonName", "u"),)),
        "notBefore": "Jan  1 00:00:00 2026 GMT",
        "notAfter": "Jan  2 00:00:00 2026 GMT",
    }
    start_s = ssl.cert_time_to_seconds("Jan  1 00:00:00 2026 GMT")
    assert caller_of_certificate(found, start_s) == Caller("u", ("system:masters", AUTHENTICATED))
    assert caller_of_certificate(found, start_s - 1) is None
    nameless = {**found, "subject": ((("organizationName", "system:masters"),),)}
    assert caller_of_certificate(nameless, start_s) is None


def test_the_user_of_a_review_is_taken_as_a_whole() -> None:
    user = {"username": "u", "uid": "7", "groups": ["a"], "extra": {"z": ["2", "1"], "b": None}}
    assert caller_of_review(user) == Caller("u", ("a", AUTHENTICATED), "7", (("b", ()), ("z", ("2", "1"))))
    assert caller_of_review({"username": "u", "groups": [AUTHENTICATED, "a"]}) == Caller("u", (AUTHENTICATED, "a"))
    assert caller_of_review({"groups": ["system:masters"]}) is None


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", ""),
        ("abc", ""),
        ("Bearer", ""),
        ("Bearer a b", ""),
        ("", ""),
    ],
)
def test_only_a_bearer_has_a_token(header: str, token: str) -> None:
    assert bearer_token(header) == token


async def test_without_the_webhook_no_token_is_known_or_sent_anywhere() -> None:
    said = Said(token={"authenticated": True, "user": {"username": "u"}})
    assert await reviews_of(said, token_review=False).caller_of_token("t") is None
    assert said.asked == []
    assert await reviews_of(said).caller_of_token("t") == Caller("u", (AUTHENTICATED,))


@pytest.mark.parametrize("told", [{"authenticated": False}, {}, {"authenticated": None}, {"authenticated": True}])
async def test_a_user_whom_the_review_does_not_confirm_is_none(told: dict[str, Any]) -> None:
    user = {"user": {"username": "u"}} if told.get("authenticated") is not True else {}
    assert await reviews_of(Said(token={**told, **user})).caller_of_token("t") is None


async def test_a_token_that_nobody_could_review_is_reviewed_the_next_time() -> None:
    said = Said(users={"t": "u", "other": "v"}, away=True)
    reviews = reviews_of(said)
    assert await reviews.caller_of_token("t") is None
    said.away = False
    assert await reviews.caller_of_token("t") == Caller("u", (AUTHENTICATED,))
    assert await reviews.caller_of_token("other") == Caller("v", (AUTHENTICATED,)), "each has its own answer"


async def test_a_token_that_was_taken_back_ends_with_cache_ttl() -> None:
    said, clock = Said(users={"t": "u"}), [0.0]
    reviews = reviews_of(said, clock, token_ttl_s=120.0, allowed_ttl_s=300.0)
    assert await reviews.caller_of_token("t") is not None
    said.users.clear()
    clock[0] = 119.0
    assert await reviews.caller_of_token("t") is not None
    clock[0] = 120.0
    assert await reviews.caller_of_token("t") is None


@pytest.mark.parametrize("told", [{"allowed": False}, {}, {"allowed": None}, {"allowed": True, "denied": True}])
async def test_what_is_not_clearly_allowed_is_not(told: dict[str, Any]) -> None:
    assert not await reviews_of(Said(access=told)).may(Caller("u"), METRICS)


async def test_the_review_names_all_of_the_caller_and_the_node() -> None:
    said = Said(access=YES)
    caller = Caller("u", ("a", AUTHENTICATED), "7", (("z", ("2", "1")),))
    assert await reviews_of(said).may(caller, METRICS)
    attributes = {"verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics", "name": "node-1"}
    assert said.asked == [
        {"user": "u", "groups": ["a", AUTHENTICATED], "uid": "7", "extra": {"z": ["2", "1"]},
         "resourceAttributes": attributes}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("caller", "need"),
    [
        (Caller("v", ("a",), "7"), METRICS),
        (Caller("u", ("b",), "7"), METRICS),
        (Caller("u", ("a",), "8"), METRICS),
        (Caller("u", ("a",), "7", (("scopes", ("all",)),)), METRICS),
        (Caller("u", ("a",), "7"), LOG),
        (Caller("u", ("a",), "7"), Need("create", ("metrics",))),
    ],
)
async def test_a_verdict_is_for_this_caller_and_this_need_alone(caller: Caller, need: Need) -> None:
    said = Said(access=YES)
    reviews = reviews_of(said)
    assert await reviews.may(Caller("u", ("a",), "7"), METRICS)
    said.access = {"allowed": False}
    assert await reviews.may(Caller("u", ("a",), "7"), METRICS), "it is remembered"
    assert not await reviews.may(caller, need)
