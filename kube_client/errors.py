"""What can go wrong with an API server.  Pure; types only.

Before: `kube_client.client` meets it on the wire.  Next: `kube_client.list_watch` decides what to do about it.
"""

from __future__ import annotations

_TOO_MANY, _SERVER_ERROR = 429, 500


class ApiError(Exception):
    """The API server cannot be used, or says no; the text reads `cannot <verb> <object>: <cause>`."""

    status = 0
    """HTTP status; 0 where no answer came."""
    reason = ""
    """metav1.Status.reason, such as "Expired"; "" where there is none."""
    retry_after_s: float | None = None
    """How long the server asks us to wait."""


class UnreachableError(ApiError):
    """No server answered, or the answer broke off."""


class SilentError(ApiError):
    """A watch says nothing for longer than a server is silent."""


class StatusError(ApiError):
    """The server answered with an error."""

    def __init__(self, text: str, status: int, reason: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class MalformedError(ApiError, ValueError):
    """The answer is no object of the API: half a JSON, another kind. In a list it spoils no other object."""


def is_away(error: ApiError) -> bool:
    """Whether the server cannot say anything, rather than says no."""
    if isinstance(error, StatusError):
        return error.status >= _SERVER_ERROR or error.status == _TOO_MANY
    return True
