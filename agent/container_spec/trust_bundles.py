"""ClusterTrustBundles as pods have them in projected volumes: the certificates that one of them, or all of a signer,
hold.  Pure.

Before: `agent/cluster/trust_keeper` follows them on the API server.  Next: `agent/volumes/payload` writes the file.
Sources: API type ClusterTrustBundleProjection; KEP-3257; the messages are the kubelet's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from lightkube.models import core_v1, meta_v1

from agent.placement import holds

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s(.*?)-----END CERTIFICATE-----", re.DOTALL)
_COLUMNS = 64


@dataclass(frozen=True)
class TrustBundle:
    """One of them. `signer` is "" where it belongs to none, `pem` its text, which may have more than certificates."""

    name: str
    signer: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    pem: str = field(default="", repr=False)


TrustBundles: TypeAlias = Sequence[TrustBundle] | str | None
"""All of the cluster; as str why there are none; None while nobody knows."""


class TrustError(LookupError):
    """There is no such bundle."""


def is_wanted(pod: core_v1.Pod) -> bool:
    """Whether the pod has a volume with certificates of such bundles."""
    volumes = (pod.spec.volumes if pod.spec else None) or ()
    parts = (part for one in volumes for part in (one.projected.sources if one.projected else None) or ())
    return any(part.clusterTrustBundle is not None for part in parts)


def trust_anchors(source: core_v1.ClusterTrustBundleProjection, bundles: Iterable[TrustBundle]) -> bytes:
    """PEM: each certificate once, in an order that stays. Raises TrustError."""
    if source.name is not None:
        found = [one for one in bundles if one.name == source.name]
        missing = f'while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "{source.name}" not found'
    else:
        found = [one for one in bundles if one.signer == source.signerName and _selects(source.labelSelector, one)]
        missing = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
    if not found and not source.optional:
        raise TrustError(missing)
    certificates = {certificate for one in found for certificate in _certificates(one.pem)}
    return b"".join(_pem(certificate) for certificate in sorted(certificates))


def _selects(selector: meta_v1.LabelSelector | None, bundle: TrustBundle) -> bool:
    """No selector means nothing, an empty one everything."""
    if selector is None:
        return False
    labels = bundle.labels
    return all(labels.get(key) == value for key, value in (selector.matchLabels or {}).items()) and all(
        holds(one, labels) for one in selector.matchExpressions or ()
    )


def _certificates(text: str) -> Iterable[bytes]:
    for body in _CERTIFICATE.findall(text):
        try:
            yield base64.b64decode("".join(body.split()), validate=True)
        except (binascii.Error, ValueError):  # a server lets none in that is not a certificate
            continue


def _pem(certificate: bytes) -> bytes:
    text = base64.b64encode(certificate).decode()
    lines = [text[start : start + _COLUMNS] for start in range(0, len(text), _COLUMNS)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()
