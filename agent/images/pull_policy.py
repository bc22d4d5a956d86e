"""Whether a pod may use an image that is on the node already, by what was shown to the registry when it came. Pure.

Before: pull_records.py knows how the image came here.  Next: puller.py pulls it again, with the pod's own credentials,
where the answer is no.  Source: KEP-2535, and the v1beta1 types ImagePullIntent and ImagePulledRecord of the kubelet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from agent.images.keyring import Credential
from agent.images.names import without_tag

NEVER_VERIFY = "NeverVerify"
NEVER_VERIFY_PRELOADED = "NeverVerifyPreloadedImages"
NEVER_VERIFY_ALLOWLISTED = "NeverVerifyAllowlistedImages"
ALWAYS_VERIFY = "AlwaysVerify"
POLICIES = (NEVER_VERIFY, NEVER_VERIFY_PRELOADED, NEVER_VERIFY_ALLOWLISTED, ALWAYS_VERIFY)
MAX_LEARNED = 100
"""From so many Secrets on, one that only fits is not written down any more."""

_Version = Literal["kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"]
_VERSION: _Version = "kubelet.config.k8s.io/v1beta1"


class PullSecret(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A Secret that an image was pulled with, and the hash of the credential in it."""

    uid: str = ""
    namespace: str = ""
    name: str = ""
    credential_hash: str = ""


class PullServiceAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A service account that an image was pulled for; only a kubelet that was here before writes it."""

    uid: str = ""
    namespace: str = ""
    name: str = ""


class PullCredentials(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """Who may use an image: pods with one of these Secrets, or all of the node."""

    kubernetes_secrets: tuple[PullSecret, ...] = ()
    kubernetes_service_accounts: tuple[PullServiceAccount, ...] = ()
    node_pods_accessible: bool = False


class ImagePullIntent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """That an image is about to be pulled: written before, removed after."""

    kind: Literal["ImagePullIntent"] = "ImagePullIntent"
    api_version: _Version = _VERSION
    image: str


class ImagePulledRecord(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How the image `image_ref` (the runtime's word for it) came here.

    `credential_mapping` is name without tag -> who may use it under that name; none: that is to be verified.
    """

    kind: Literal["ImagePulledRecord"] = "ImagePulledRecord"
    api_version: _Version = _VERSION
    last_updated_time: str | None
    image_ref: str
    credential_mapping: dict[str, PullCredentials] = {}


@dataclass(frozen=True)
class VerificationPolicy:
    """imagePullCredentialsVerificationPolicy, and the patterns of preloadedImagesVerificationAllowlist."""

    policy: str = NEVER_VERIFY_PRELOADED
    allowlist: tuple[str, ...] = ()

    def must_verify(self, image: str, *, pulled_here: bool) -> bool:
        """Whether using a present image needs credentials; `pulled_here`: by an agent of this node."""
        if self.policy == NEVER_VERIFY_ALLOWLISTED:
            return not self._allowed(image)
        return self.policy == ALWAYS_VERIFY or (self.policy == NEVER_VERIFY_PRELOADED and pulled_here)

    def _allowed(self, image: str) -> bool:
        try:
            name = without_tag(image)
        except ValueError:
            name = image
        return any(name.startswith(one[:-1]) if one.endswith("/*") else name == one for one in self.allowlist)


def allowlist_problem(pattern: str) -> str:
    """What is wrong with a pattern of the allow list, "" when nothing is."""
    trimmed = pattern.removesuffix("*") if pattern.endswith("/*") else pattern
    if pattern != pattern.strip():
        return f"leading/trailing spaces are not allowed: {pattern!r}"
    if not trimmed:
        return f"the supplied pattern is too short: {pattern!r}"
    if "*" in trimmed:
        return f"not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern!r}"
    if trimmed != pattern:
        return "at least registry hostname is required" if trimmed == "/" else ""
    try:
        whole = without_tag(pattern)
    except ValueError as error:
        return f"failed to parse as an image name: {error}"
    return "" if whole == pattern else f"neither tag nor digest is accepted in an image reference: {pattern!r}"


def credentials_of(shown: Credential | None) -> PullCredentials:
    """What a pull tells of who may use the image; `shown` is what the registry accepted, None for nothing."""
    if shown is None or shown.source is None:
        return PullCredentials(node_pods_accessible=True)
    return PullCredentials(kubernetes_secrets=(_secret(shown),))


def merge_credentials(known: PullCredentials | None, new: PullCredentials) -> PullCredentials:
    """Both together: who may use it by either. A Secret that has changed counts with what it holds now."""
    if known is None or new.node_pods_accessible:
        return new
    if known.node_pods_accessible:
        return known
    secrets = {_place(one): one for one in (*known.kubernetes_secrets, *new.kubernetes_secrets)}
    ordered = tuple(secrets[place] for place in sorted(secrets))
    return msgspec.structs.replace(known, kubernetes_secrets=ordered)


def fitting_secret(
    mapping: Mapping[str, PullCredentials], image: str, shown: Iterable[Credential]
) -> tuple[bool, PullCredentials | None]:
    """Whether a pod that has `shown` may use the image by its record, and what that adds to the record.

    The same credential in another Secret counts, and so does the same Secret with another credential (it was rotated).
    """
    known = mapping.get(without_tag(image))
    if known is None:
        return False, None
    if known.node_pods_accessible:
        return True, None
    few = len(known.kubernetes_secrets) < MAX_LEARNED
    for one in (_secret(credential) for credential in shown if credential.source is not None):
        for cached in known.kubernetes_secrets:
            same_hash = bool(cached.credential_hash) and cached.credential_hash == one.credential_hash
            same_place = _place(cached) == _place(one)
            if same_hash or (same_place and few):
                learned = PullCredentials(kubernetes_secrets=(one,)) if few and same_hash != same_place else None
                return True, learned
    return False, None


def _secret(credential: Credential) -> PullSecret:
    source = credential.source
    if source is None:
        raise ValueError("a credential of the node is no Secret")
    return PullSecret(uid=source.uid, namespace=source.namespace, name=source.name, credential_hash=credential.digest)


def _place(one: PullSecret) -> tuple[str, str, str]:
    return one.namespace, one.name, one.uid
