"""A registry of images on the test host: plain HTTP, some of it only for who knows a password. I/O.

Before: `lab.host` and `lab.containerd` run. Next: pods of tests name its images and have them pulled for real. It
answers the pull half of the OCI distribution specification; `access` may be changed while it runs, and `requests` tells
what it was asked.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.containerd import PrivateContainerd
from lab.host import NODE_IP
from lab.images import web_archive
from lab.machine import LabProcess, Machine, wait_until

PORT = 5000
REGISTRY = f"{NODE_IP}:{PORT}"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class Registry:
    """A registry below `base`, known to `containerd`, which reads how to reach it at each pull.

    `access` maps a repository to the users who may pull it, with their passwords; what is not in it is everybody's.
    """

    def __init__(self, machine: Machine, containerd: PrivateContainerd, base: Path) -> None:
        self._machine = machine
        self._hosts = containerd.registries / REGISTRY
        self._base = base
        self._process: LabProcess | None = None
        for part in ("blobs", "manifests"):
            (base / part).mkdir(parents=True, exist_ok=True)
        self.set_access({})

    def __enter__(self) -> Self:
        """Start it."""
        self._hosts.mkdir(parents=True, exist_ok=True)
        hosts = f'server = "http://{REGISTRY}"\n[host."http://{REGISTRY}"]\n  capabilities = ["pull", "resolve"]\n'
        (self._hosts / "hosts.toml").write_text(hosts)
        argv = [sys.executable, "-m", "lab.registry", str(self._base)]
        process = self._machine.start(argv, log=self._base / "log", cwd=Path(__file__).parents[1])
        self._process = process
        wait_until(lambda: "listening" in process.log_text(), "the registry to listen")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.stop()

    def add_web(self, repository: str, tag: str) -> str:
        """Offer the lab's web image, whose version is the tag; its name for pods."""
        with tarfile.open(fileobj=io.BytesIO(web_archive(f"{repository}:{tag}"))) as archive:
            files = {member.name: _content(archive, member.name) for member in archive.getmembers()}
        (saved,) = json.loads(files["manifest.json"])
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._blob(files[saved["Config"]], _CONFIG),
            "layers": [self._blob(files[name], _LAYER) for name in saved["Layers"]],
        }
        place = self._base / "manifests" / repository
        place.mkdir(parents=True, exist_ok=True)
        data = json.dumps(manifest).encode()
        for name in (tag, _digest(data)):
            (place / name).write_bytes(data)
        return f"{REGISTRY}/{repository}:{tag}"

    def set_access(self, access: Mapping[str, Mapping[str, str]]) -> None:
        """Who may pull what from now on: repository -> user -> password."""
        (self._base / "access.json").write_text(json.dumps(access))

    def requests(self, what: str) -> list[str]:
        """The requests so far whose path holds `what`: `METHOD PATH USER STATUS`."""
        lines = self._process.log_text(1 << 20).splitlines() if self._process is not None else []
        return [line for line in lines if what in line]

    def _blob(self, data: bytes, media_type: str) -> dict[str, object]:
        (self._base / "blobs" / _digest(data)).write_bytes(data)
        return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def docker_config(user: str, password: str, registry: str = REGISTRY) -> dict[str, object]:
    """A config.json with one credential."""
    word = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"auths": {registry: {"auth": word}}}


def pull_secret(name: str, user: str, password: str) -> dict[str, object]:
    """The manifest of a Secret for imagePullSecrets."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(docker_config(user, password))},
    }


def serve(base: Path) -> None:
    """Answer for ever."""
    handler = type("Handler", (_Handler,), {"base": base})
    with ThreadingHTTPServer((NODE_IP, PORT), handler) as server:
        print("listening", flush=True)
        server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    base: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A manifest, a blob, or the root, which says that this is a registry."""
        repository, _, rest = self.path.removeprefix("/v2/").partition("/manifests/")
        kind, file = "manifests", self.base / "manifests" / repository / rest
        if not rest:
            repository, _, rest = self.path.removeprefix("/v2/").partition("/blobs/")
            kind, file = "blobs", self.base / "blobs" / rest
        if not self._allowed(repository):
            self._answer(401, b"{}", "application/json")
        elif not rest:
            self._answer(200, b"{}", "application/json")
        elif ".." in self.path or not file.is_file():
            self._answer(404, b"{}", "application/json")
        else:
            self._answer(200, file.read_bytes(), _MANIFEST if kind == "manifests" else "application/octet-stream")

    def do_HEAD(self) -> None:
        """The same without the content."""
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Requests are told by `_answer`."""

    def _user(self) -> tuple[str, str]:
        word = self.headers.get("Authorization", "").removeprefix("Basic ")
        user, _, password = base64.b64decode(word).decode().partition(":")
        return user, password

    def _allowed(self, repository: str) -> bool:
        users = json.loads((self.base / "access.json").read_bytes()).get(repository)
        user, password = self._user()
        return users is None or (bool(user) and users.get(user) == password)

    def _answer(self, status: int, data: bytes, media_type: str) -> None:
        print(self.command, self.path, self._user()[0] or "-", status, flush=True)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="lab"')
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", _digest(data))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    return file.read() if file is not None else b""


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
