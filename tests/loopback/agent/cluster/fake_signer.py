"""An API server in memory that takes certificate signing requests, and whoever approves and signs them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import json
from collections.abc import Mapping
from typing import Any

from cryptography import x509 as library

from agent.cluster.certificates import CLIENT, REQUESTS, Purpose
from control_plane import x509
from kube_client.errors import StatusError

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


class Signer:
    """The API server's certificatesigningrequests, approved and signed when somebody has looked `patience` times."""

    def __init__(self, patience: int = 0, purpose: Purpose = CLIENT) -> None:
        self.purpose = purpose
        key = x509.new_key()
        self.authority = x509.Authority(x509.new_authority("ca", key, NOW, 9 * DAY), key)
        self.patience = patience
        self.refuse = False
        self.mistaken = False
        self.valid = DAY
        self.objects: dict[str, dict[str, Any]] = {}
        self.posts = 0
        self.asked = asyncio.Event()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        if path not in self.objects:
            raise StatusError(f"{path} not found", 404, "NotFound")
        return json.dumps(self._looked_at(self.objects[path])).encode()

    async def send(
        self, method: str, path: str, body: bytes = b"", content_type: str = "", params: Mapping[str, str] | None = None
    ) -> bytes:
        assert (method, path) == ("POST", REQUESTS)
        self.posts += 1
        found = json.loads(body)
        assert found["spec"]["signerName"] == self.purpose.signer
        assert found["spec"]["usages"] == list(self.purpose.usages)
        name = f"{path}/{found['metadata']['name']}"
        if name in self.objects:
            raise StatusError("already exists", 409, "AlreadyExists")
        self.objects[name] = found
        self.asked.set()
        return json.dumps(self._looked_at(found)).encode()

    def _looked_at(self, found: dict[str, Any]) -> dict[str, Any]:
        self.patience -= 1
        if self.refuse:
            condition = {"type": "Denied", "status": "True", "reason": "NotYou", "message": "who are you"}
            return {**found, "status": {"conditions": [condition]}}
        return found if self.patience >= 0 else {**found, "status": {"certificate": self._sign(found)}}

    def _sign(self, found: dict[str, Any]) -> str:
        request = library.load_pem_x509_csr(base64.b64decode(found["spec"]["request"]))
        assert request.is_signature_valid
        names = [str(part.value) for part in request.subject]
        assert names == ["system:nodes", "system:node:node-1"]
        public = x509.new_key().public_key() if self.mistaken else request.public_key()

        class Key:
            """As far as `issue` needs it: it only wants the public half."""

            def public_key(self) -> Any:
                return public

        addresses: tuple[str, ...] = ()
        with contextlib.suppress(library.ExtensionNotFound):
            hosts = request.extensions.get_extension_for_class(library.SubjectAlternativeName).value
            addresses = tuple(str(one.value) for one in hosts)
        subject = x509.Subject(name=names[1], groups=(names[0],), addresses=addresses)
        made = x509.issue(self.authority, subject, Key(), NOW, self.valid)  # type: ignore[arg-type]
        return base64.b64encode(x509.certificate_pem(made)).decode()
