"""ClusterTrustBundles of a real API server as files of a pod, as the Node authorizer lets the agent read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.pki import Authority
from tests.cluster.conftest import Member
from tests.cluster.test_claims import events_of, within
from tests.cluster.test_pods import pod_object, running

pytestmark = pytest.mark.timeout(900)
LABEL = "trust-bundles"


def bundle(name: str, text: str, signer: str = "", era: str = "new") -> dict[str, Any]:
    spec = {"trustBundle": text, **({"signerName": signer} if signer else {})}
    metadata = {"name": name, "labels": {"test": LABEL, "era": era}}
    return {
        "apiVersion": "certificates.k8s.io/v1beta1",
        "kind": "ClusterTrustBundle",
        "metadata": metadata,
        "spec": spec,
    }


def test_a_pod_has_the_certificates_that_it_selects_and_they_follow(member: Member, tmp_path: Path) -> None:
    one, two, three = (Authority(tmp_path / name, name).certificate.read_text() for name in ("one", "two", "three"))
    signer = "example.com/signer"
    sources = [
        {"name": "roots", "path": "named.pem"},
        {"signerName": signer, "labelSelector": {"matchLabels": {"era": "new"}}, "path": "signers.pem"},
        {"name": "none", "path": "none.pem", "optional": True},
    ]
    volume = {"name": "trust", "projected": {"sources": [{"clusterTrustBundle": source} for source in sources]}}
    pod = pod_object(LABEL, "trusts", volumes=[volume], nodeName="member-a")
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "trust", "mountPath": "/trust"}]
    old = bundle("example.com:signer:old", three, signer, "old")
    try:
        member.cluster.apply(bundle("roots", one), old, pod)
        said = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
        member.wait(lambda: any(said in text for text in events_of(member, "trusts")), "an event that says what lacks")
        new, newer = (f"example.com:signer:{name}" for name in ("new", "newer"))
        member.cluster.apply(bundle(new, one + two, signer), bundle(newer, two, signer))
        member.wait(lambda: running(member, LABEL), "the pod to run")
        assert within(member, "trusts", "cat /trust/named.pem") == one.strip()
        assert within(member, "trusts", "cat /trust/signers.pem") in ((one + two).strip(), (two + one).strip())
        assert within(member, "trusts", "cat /trust/none.pem") == ""

        member.cluster.apply(bundle("roots", two))
        member.wait(lambda: within(member, "trusts", "cat /trust/named.pem") == two.strip(), "the file to follow")
    finally:
        member.remove(LABEL)
        member.cluster.kubectl("delete", "clustertrustbundles", f"--selector=test={LABEL}")
