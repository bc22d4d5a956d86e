"""The endpoint is found and refused as the kubelet does, and every fault of a socket has its sentence."""

import os
import socket
from pathlib import Path

import pytest

from cri_client.endpoint import WELL_KNOWN, discover_endpoint, explain_endpoint, socket_path
from cri_client.errors import EndpointError


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_the_explicit_endpoint_wins_and_a_bare_path_is_a_unix_socket(tmp_path: Path) -> None:
    with listening(tmp_path / "other.sock"):
        known = (f"unix://{tmp_path}/other.sock",)
        assert discover_endpoint("unix:///x/y.sock", known) == "unix:///x/y.sock"
        assert discover_endpoint("/x/y.sock", known) == "unix:///x/y.sock"
        assert discover_endpoint("unix:/x/y.sock", known) == "unix:///x/y.sock"


def test_the_first_socket_that_exists_is_taken_in_the_kubelets_order(tmp_path: Path) -> None:
    first, second, third = (f"unix://{tmp_path}/{number}.sock" for number in (1, 2, 3))
    (tmp_path / "1.sock").write_text("a file is no socket")
    with listening(tmp_path / "2.sock"), listening(tmp_path / "3.sock"):
        assert discover_endpoint(None, (first, second, third)) == second
        assert discover_endpoint("", (third, second)) == third
    assert WELL_KNOWN[0] == "unix:///run/containerd/containerd.sock"


def test_without_any_socket_it_is_containerds(tmp_path: Path) -> None:
    known = (f"unix://{tmp_path}/1.sock", f"unix://{tmp_path}/2.sock")
    assert discover_endpoint(None, known) == known[0]


@pytest.mark.parametrize(
    ("endpoint", "cause"),
    [
        ("tcp://127.0.0.1:1234", "only unix sockets are supported, not 'tcp'"),
        ("http://x/y", "only unix sockets are supported, not 'http'"),
        ("npipe:////./pipe/containerd", "only unix sockets are supported, not 'npipe'"),
        ("unix://run/containerd.sock", "the path of the socket must be absolute"),
        ("run/containerd.sock", "the path of the socket must be absolute"),
        ("unix://", "the path of the socket must be absolute"),
        ("unix:///" + "x" * 107, "longer than 107 bytes"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused(endpoint: str, cause: str) -> None:
    with pytest.raises(EndpointError) as caught:
        discover_endpoint(endpoint)
    assert str(caught.value).startswith(f"cannot reach the container runtime at {endpoint}: ")
    assert cause in str(caught.value)


def test_faults_of_the_socket_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    endpoint = f"unix://{path}"
    assert "no socket at" in str(explain_endpoint(endpoint))
    path.write_text("")
    assert "is not a socket" in str(explain_endpoint(endpoint))
    path.unlink()
    with listening(path):
        assert explain_endpoint(endpoint) is None
    assert "nobody listens on" in str(explain_endpoint(endpoint))
    assert "Not a directory" in str(explain_endpoint(f"unix://{path}/deeper.sock"))


def test_a_socket_without_permission_says_so(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to become somebody without permission")
    path = tmp_path / "a.sock"
    with listening(path):
        path.chmod(0o600)
        tmp_path.chmod(0o755)
        assert said_as_nobody(path).startswith("cannot reach the container runtime at")
        assert "permission denied" in said_as_nobody(path)
        tmp_path.chmod(0o700)
        assert "permission denied" in said_as_nobody(path)


def said_as_nobody(path: Path) -> str:
    """Explain the endpoint in a child without rights; what it says comes back by a pipe."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        os.write(writing, str(explain_endpoint(f"unix://{path}")).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_socket_path() -> None:
    assert socket_path("unix:///run/x.sock") == Path("/run/x.sock")
