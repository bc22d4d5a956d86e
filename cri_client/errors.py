"""What a runtime's refusal is called here; gRPC codes are mapped in this one place. Pure (grpc is not imported).

Before this comes `channel` (which catches grpc's own exception), after it the agent, which decides by class. A code
without a class of its own is a plain `CriError`: UNKNOWN in particular is never NotFound, whatever its text says.
Source: gRPC status codes, github.com/grpc/grpc/blob/master/doc/statuscodes.md.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar, Protocol


class Code(IntEnum):
    """The gRPC status codes by number."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CriError(Exception):
    """The runtime refused or did not answer: `code`, `method` (CRI name, "StartContainer") and the runtime's `message`.

    `outcome_unknown` is True when the call may have taken effect all the same (deadline passed, connection lost,
    cancelled): then list by pod UID and adopt what came late, never call blindly again under the same attempt
    (containerd issues 4604, 9947, 12438: the name stays reserved while the first call is at work).
    """

    fixed_code: ClassVar[Code | None] = None

    def __init__(self, method: str, message: str, code: Code | None = None) -> None:
        self.code = code if code is not None else (self.fixed_code or Code.UNKNOWN)
        self.method = method
        self.message = message
        super().__init__(f"cannot call {method}: {message} ({self.code.name})")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.method, self.message, self.code))

    @property
    def outcome_unknown(self) -> bool:
        """Whether the call may have taken effect although it failed here."""
        return self.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.CANCELLED)


class NotFound(CriError):  # noqa: N818 - the gRPC code's own name, as all below
    """No such sandbox, container or image."""

    fixed_code = Code.NOT_FOUND


class AlreadyExists(CriError):  # noqa: N818 - as above
    """The name or object is there already."""

    fixed_code = Code.ALREADY_EXISTS


class DeadlineExceeded(CriError):  # noqa: N818 - as above
    """The deadline of the call passed; the runtime goes on with it."""

    fixed_code = Code.DEADLINE_EXCEEDED


class Unavailable(CriError):  # noqa: N818 - as above
    """No runtime behind the socket, or it went away during the call."""

    fixed_code = Code.UNAVAILABLE


class Unimplemented(CriError):  # noqa: N818 - as above
    """The runtime does not know this method or this API version."""

    fixed_code = Code.UNIMPLEMENTED


class InvalidArgument(CriError):  # noqa: N818 - as above
    """A field of the request cannot be what it is."""

    fixed_code = Code.INVALID_ARGUMENT


class FailedPrecondition(CriError):  # noqa: N818 - as above
    """The object is not in a state that allows this call."""

    fixed_code = Code.FAILED_PRECONDITION


class ResourceExhausted(CriError):  # noqa: N818 - as above
    """A limit was reached; also a message above the size limit of the channel."""

    fixed_code = Code.RESOURCE_EXHAUSTED


class Cancelled(CriError):  # noqa: N818 - as above
    """The runtime cancelled the call (our own cancellation stays asyncio.CancelledError)."""

    fixed_code = Code.CANCELLED


class EndpointError(CriError):
    """No usable runtime endpoint: says which socket, what is wrong with it and what to do."""

    fixed_code = Code.UNAVAILABLE

    def __init__(self, endpoint: str, message: str) -> None:
        super().__init__("Version", message)
        self.endpoint = endpoint
        self.args = (f"cannot reach the container runtime at {endpoint}: {message}",)

    def __reduce__(self) -> tuple[Any, ...]:
        return (EndpointError, (self.endpoint, self.message))


_CLASSES: dict[Code, type[CriError]] = {
    kind.fixed_code: kind
    for kind in (
        NotFound,
        AlreadyExists,
        DeadlineExceeded,
        Unavailable,
        Unimplemented,
        InvalidArgument,
        FailedPrecondition,
        ResourceExhausted,
        Cancelled,
    )
}


def error_of(code: int, method: str, message: str) -> CriError:
    """Build the exception for a numeric gRPC status code; a number outside the list reads as UNKNOWN."""
    try:
        known = Code(code)
    except ValueError:
        known = Code.UNKNOWN
    return _CLASSES.get(known, CriError)(method, message, known)


class _GrpcError(Protocol):
    """The part of grpc.aio.AioRpcError that is read here."""

    def code(self) -> Any: ...

    def details(self) -> str | None: ...


def from_grpc(error: _GrpcError, method: str) -> CriError:
    """Translate grpc.aio's exception; `method` is the CRI's name of the call."""
    number: int = error.code().value[0]
    return error_of(number, method, error.details() or "no details given")
