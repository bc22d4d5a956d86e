"""Who asks: a user as certificates and TokenReviews name one.  Pure.

Before: `server` has the peer's certificate, `reviews` the answer of the API server.  Next: `reviews` asks what the user
may.  Sources: x509 authentication (CN is the user, O the groups), API type TokenReview.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True, slots=True)
class Caller:
    """A user; `extra` are pairs in the order of their names."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


def caller_of_certificate(found: Mapping[str, Any] | None, now_s: float) -> Caller | None:
    """The user of a certificate (as `ssl` describes one that it has verified) if it is valid now and names one.

    `now_s` is Unix time: a connection may outlive the certificate that opened it.
    """
    if not found or not ssl.cert_time_to_seconds(found["notBefore"]) <= now_s < ssl.cert_time_to_seconds(
        found["notAfter"]
    ):
        return None
    names = [pair for part in found.get("subject", ()) for pair in part]
    user = next((text for key, text in names if key == "commonName"), "")
    groups = [text for key, text in names if key == "organizationName"]
    return Caller(user, (*groups, AUTHENTICATED)) if user else None


def caller_of_review(user: Mapping[str, Any]) -> Caller | None:
    """The user of a TokenReview that says authenticated."""
    name = user.get("username") or ""
    groups = tuple(user.get("groups") or ())
    extra = tuple(sorted((key, tuple(values or ())) for key, values in (user.get("extra") or {}).items()))
    if not name:
        return None
    return Caller(name, groups if AUTHENTICATED in groups else (*groups, AUTHENTICATED), user.get("uid") or "", extra)


def bearer_token(header: str) -> str:
    """The token of an Authorization header, "" where there is none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" and " " not in token.strip() else ""
