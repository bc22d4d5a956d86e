"""gRPC codes become classes in one place."""

import pickle

import grpc
import pytest

from cri_client import errors
from cri_client.errors import Code, CriError, EndpointError, NotFound, Unavailable, error_of, from_grpc


def test_the_codes_are_grpcs() -> None:
    assert {code.name: code.value[0] for code in grpc.StatusCode if code is not grpc.StatusCode.OK} == {
        code.name: int(code) for code in Code
    }


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.NOT_FOUND, errors.NotFound),
        (Code.ALREADY_EXISTS, errors.AlreadyExists),
        (Code.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (Code.UNAVAILABLE, errors.Unavailable),
        (Code.UNIMPLEMENTED, errors.Unimplemented),
        (Code.INVALID_ARGUMENT, errors.InvalidArgument),
        (Code.FAILED_PRECONDITION, errors.FailedPrecondition),
        (Code.RESOURCE_EXHAUSTED, errors.ResourceExhausted),
        (Code.CANCELLED, errors.Cancelled),
        (Code.UNKNOWN, CriError),
        (Code.INTERNAL, CriError),
        (99, CriError),
    ],
)
def test_each_code_has_its_class(code: int, kind: type[CriError]) -> None:
    error = error_of(code, "StartContainer", "why")
    assert type(error) is kind
    assert error.code == (code if code != 99 else Code.UNKNOWN)
    assert str(error) == f"cannot call StartContainer: why ({error.code.name})"


def test_unknown_is_never_not_found_whatever_it_says() -> None:
    assert not isinstance(error_of(2, "ContainerStatus", 'container "x": not found'), NotFound)


@pytest.mark.parametrize("code", list(Code))
def test_only_lost_answers_leave_the_outcome_open(code: Code) -> None:
    lost = code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.CANCELLED)
    assert error_of(code, "RunPodSandbox", "").outcome_unknown is lost


def test_from_grpc_keeps_code_and_text() -> None:
    raised = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone", None)
    error = from_grpc(raised, "Version")
    assert isinstance(error, Unavailable)
    assert (error.method, error.message) == ("Version", "gone")
    silent = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), None, None)
    assert from_grpc(silent, "Version").message == "no details given"


def test_errors_survive_pickling() -> None:
    for error in (error_of(5, "A", "b"), error_of(13, "A", "b"), EndpointError("unix:///x", "no socket")):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert (type(again), str(again), again.code) == (type(error), str(error), error.code)
