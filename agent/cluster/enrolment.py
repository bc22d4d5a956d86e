"""Who this node is to its cluster: the kubeconfig, else TLS bootstrap, which makes one; and the certificate's renewal.
I/O.

Before: `access` has read what there is.  Next: `side` opens its clients with what `settle` returns.  As in the kubelet
a bootstrap kubeconfig only counts where the kubeconfig is missing or wrong, or its certificate has expired: a node that
was off for a year comes back by itself as long as its token is good.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from agent.cluster.access import USER_AGENT, Access
from agent.cluster.certificate_files import CertificateError, CertificateFiles, read_validity
from agent.cluster.certificates import Validity, expiry_text, kubeconfig, pem_blocks, renew_at_s
from agent.cluster.counts import ClusterCounts
from agent.cluster.protocols import Api
from agent.cluster.signing import BETWEEN_TWO_S, MAX_RETRY_S, until, until_renewed
from daemonkit.files import write_atomic
from kube_client.client import KubeClient
from kube_client.config import ApiConfig, Material
from kube_client.kubeconfig import read_kubeconfig

_RANDOM = random.SystemRandom()
_log = logging.getLogger(__name__)


class Enrolment:
    """`tell` is told what is waited for, "" when for nothing."""

    def __init__(self, access: Access, node_name: str, tell: Callable[[str], None], counts: ClusterCounts) -> None:
        self._access = access
        self._node_name = node_name
        self._tell = tell
        self._counts = counts
        self._files = CertificateFiles(access.cert_dir)
        self.expired = ""
        """That the certificate had expired when the agent began, and how to repair that."""

    @property
    def rotates(self) -> bool:
        """Whether `rotate` is to run, after `settle`."""
        return self._access.rotate and self._files.current.exists()

    async def settle(self) -> ApiConfig:
        """The API server and who we are to it, as soon as that is known."""
        api, until_s = self._access.api, 0.0
        if api is not None:
            until_s = await self._until_s(api)
        if self._access.bootstrap is not None and (api is None or until_s < time.time()):
            return await self._bootstrap(self._access.bootstrap)
        assert api is not None  # noqa: S101 # `access` has one of the two
        if until_s < time.time() and api.certificate is not None:
            self.expired = expiry_text(api.certificate.where, until_s)
            _log.error("%s", self.expired)
        return await self._rotated(api, until_s) if self._access.rotate else api

    async def rotate(self, api: Api) -> None:
        """Renew the certificate in time, for ever."""
        while True:
            valid = await self._validity()
            await until(renew_at_s(valid, _RANDOM.random) if valid is not None else 0.0)
            await until_renewed(api, self._files, self._node_name, self._tell, counts=self._counts)
            await self._validity()
            await asyncio.sleep(BETWEEN_TWO_S)

    async def _validity(self) -> Validity | None:
        valid = await self._files.validity()
        self._counts.client_until_s = valid.until_s if valid is not None else float("inf")
        return valid

    async def _bootstrap(self, bootstrap: ApiConfig) -> ApiConfig:
        _log.info("asking %s for a client certificate for node %s", bootstrap.servers[0], self._node_name)
        while True:
            try:
                async with KubeClient(bootstrap, USER_AGENT, counts=self._counts.requests) as client:
                    await until_renewed(client, self._files, self._node_name, self._tell, counts=self._counts)
                text = yaml.safe_dump(kubeconfig(bootstrap, self._files.current))
                self._access.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._access.kubeconfig, text.encode())
                return read_kubeconfig(self._access.kubeconfig)
            except (OSError, ValueError) as error:
                _log.error("cannot make %s: %s; trying again", self._access.kubeconfig, error)
                await asyncio.sleep(MAX_RETRY_S)

    async def _until_s(self, api: ApiConfig) -> float:
        """When the certificate of the kubeconfig ends; never where it has none that the tool can read."""
        if api.certificate is None:
            return float("inf")
        try:
            return (await read_validity(_pem(api.certificate))).until_s
        except (CertificateError, OSError):
            return float("inf")

    async def _rotated(self, api: ApiConfig, until_s: float) -> ApiConfig:
        """The newer of the certificate of the kubeconfig and the one that was renewed last, in its place."""
        if api.certificate is None or api.key is None:
            return api
        present = await self._files.validity()
        if present is None or present.until_s < until_s:
            try:
                key = pem_blocks(_pem(api.key), b"PRIVATE KEY")
                self._files.put(pem_blocks(_pem(api.certificate), b"CERTIFICATE"), key)
            except (CertificateError, OSError) as error:
                _log.error("cannot keep the client certificate in %s: %s", self._files.directory, error)
                return api
        current = Material("flag --cert-dir", path=self._files.current)
        return replace(api, certificate=current, key=current)


def _pem(one: Material) -> bytes:
    path: Path | None = one.path
    return one.data if path is None else path.read_bytes()
