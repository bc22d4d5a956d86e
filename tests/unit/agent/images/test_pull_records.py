"""KEP-2535: who may use an image that is on the node, in the kubelet's own files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from lightkube.models import core_v1, meta_v1

from agent.images.keyring import Credential, parse_docker_config, pull_secrets
from agent.images.pull_policy import (
    ALWAYS_VERIFY,
    NEVER_VERIFY,
    NEVER_VERIFY_ALLOWLISTED,
    VerificationPolicy,
    allowlist_problem,
)
from agent.images.pull_records import PullRecords
from cri_client.types import Image
from kube_objects.config_data import SECRET, ConfigData, ConfigObjects

IMAGE, REF = "registry.io/team/app:1", "sha256:ref"
PRELOADED = VerificationPolicy()


def opened(root: Path, policy: VerificationPolicy = PRELOADED) -> PullRecords:
    return PullRecords(root, policy, lambda: 1_729_513_600.0)


def shown(key: str = "p", name: str = "mine", namespace: str = "default", uid: str = "") -> Credential:
    """The credential of a Secret."""
    text = json.dumps({"auths": {"registry.io": {"username": "u", "password": key}}}).encode()
    kind = "kubernetes.io/dockerconfigjson"
    secret = ConfigData(SECRET, namespace, name, {".dockerconfigjson": text}, type=kind, uid=uid)
    spec = core_v1.PodSpec(containers=[], imagePullSecrets=[core_v1.LocalObjectReference(name=name)])
    pod = core_v1.Pod(metadata=meta_v1.ObjectMeta(namespace=namespace), spec=spec)
    (found,), _ = pull_secrets(pod, ConfigObjects([secret]))
    return found


async def pulled(root: Path, by: Credential | None = None, image: str = IMAGE) -> None:
    records = opened(root)
    await records.begin(image)
    await records.succeeded(image, REF, by)


def files(root: Path) -> dict[str, dict[str, object]]:
    found = (root / "image_manager").glob("*/*")
    return {f"{path.parent.name}/{path.name}": json.loads(path.read_bytes()) for path in found}


def name_of(text: str) -> str:
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"


async def test_the_files_are_the_kubelets(tmp_path: Path) -> None:
    records = opened(tmp_path)
    await records.begin(IMAGE)
    intent = {"kind": "ImagePullIntent", "apiVersion": "kubelet.config.k8s.io/v1beta1", "image": IMAGE}
    assert files(tmp_path) == {f"pulling/{name_of(IMAGE)}": intent}
    await records.succeeded(IMAGE, REF, shown(uid="7"))
    (record,) = files(tmp_path).values()
    assert list(files(tmp_path)) == [f"pulled/{name_of(REF)}"]
    secret = {"uid": "7", "namespace": "default", "name": "mine", "credentialHash": shown().digest}
    assert record == {
        "kind": "ImagePulledRecord",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "lastUpdatedTime": "2024-10-21T12:26:40Z",
        "imageRef": REF,
        "credentialMapping": {"registry.io/team/app": {"kubernetesSecrets": [secret]}},
    }
    assert (tmp_path / "image_manager" / "pulled").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "image_manager").glob("*/*")} == {0o600}


def test_the_hash_is_gos() -> None:
    (one,) = parse_docker_config(b'{"auths": {"r.io": {"username": "a<b>&", "password": "\xc3\xa9", "email": "e@x"}}}')
    as_go = '{"username":"a\\u003cb\\u003e\\u0026","password":"\u00e9","email":"e@x"}'
    assert one.digest == hashlib.sha256(as_go.encode()).hexdigest()
    assert one.digest not in repr(one)


async def test_only_who_showed_it_may_use_it(tmp_path: Path) -> None:
    await pulled(tmp_path, shown())
    records = opened(tmp_path)
    assert not await records.must_pull(IMAGE, REF, [shown()])
    assert await records.must_pull(IMAGE, REF, [])
    assert await records.must_pull(IMAGE, REF, [shown("other", name="theirs")])
    assert await records.must_pull("registry.io/else/app:1", REF, [shown()])
    assert not await records.must_pull("registry.io/team/app:2@sha256:" + "0" * 64, REF, [shown()])
    node_wide = Credential("registry.io", shown().auth, digest=shown().digest)
    assert await records.must_pull(IMAGE, REF, [node_wide])


async def test_the_same_credential_elsewhere_and_the_same_secret_renewed_count_and_are_learned(tmp_path: Path) -> None:
    await pulled(tmp_path, shown())
    assert not await opened(tmp_path).must_pull(IMAGE, REF, [shown(namespace="team")])
    assert not await opened(tmp_path).must_pull(IMAGE, REF, [shown("new")])
    (record,) = files(tmp_path).values()
    mapping = record["credentialMapping"]
    assert isinstance(mapping, dict)
    secrets = mapping["registry.io/team/app"]["kubernetesSecrets"]
    assert [(one["namespace"], one["credentialHash"]) for one in secrets] == [
        ("default", shown("new").digest),
        ("team", shown().digest),
    ]
    assert await opened(tmp_path).must_pull(IMAGE, REF, [shown("new", uid="another")]) is False
    assert await opened(tmp_path).must_pull(IMAGE, REF, [shown("third", uid="third")])


async def test_what_came_without_a_secret_is_everybodys(tmp_path: Path) -> None:
    await pulled(tmp_path, shown())
    await pulled(tmp_path, None)
    assert not await opened(tmp_path).must_pull(IMAGE, REF, [])
    await pulled(tmp_path, shown("other"))
    assert not await opened(tmp_path).must_pull(IMAGE, REF, [])


@pytest.mark.parametrize(
    ("policy", "preloaded", "ours"),
    [
        (PRELOADED, False, True),
        (VerificationPolicy(NEVER_VERIFY), False, False),
        (VerificationPolicy(ALWAYS_VERIFY), True, True),
        (VerificationPolicy(NEVER_VERIFY_ALLOWLISTED, ("registry.io/team/app",)), False, False),
        (VerificationPolicy(NEVER_VERIFY_ALLOWLISTED, ("registry.io/*",)), False, False),
        (VerificationPolicy(NEVER_VERIFY_ALLOWLISTED, ("registry.io/tea/*", "app")), True, True),
    ],
)
async def test_policies(tmp_path: Path, policy: VerificationPolicy, preloaded: bool, ours: bool) -> None:
    assert await opened(tmp_path, policy).must_pull(IMAGE, "sha256:preloaded", []) is preloaded
    await pulled(tmp_path, shown())
    assert await opened(tmp_path, policy).must_pull(IMAGE, REF, []) is ours


async def test_an_intent_alone_makes_an_image_one_that_was_pulled(tmp_path: Path) -> None:
    await opened(tmp_path).begin(IMAGE)
    assert await opened(tmp_path).must_pull(IMAGE, REF, [shown()])
    after = opened(tmp_path)
    await after.recover([Image(id=REF, repo_tags=(IMAGE,)), Image(id="sha256:else", repo_tags=("a:1",))])
    assert list(files(tmp_path)) == [f"pulled/{name_of(REF)}"]
    assert await opened(tmp_path).must_pull(IMAGE, REF, [shown()])


async def test_a_pull_that_never_ended_keeps_its_intent_until_one_does(tmp_path: Path) -> None:
    await opened(tmp_path).begin(IMAGE)
    after = opened(tmp_path)
    await after.recover([])
    assert list(files(tmp_path)) == [f"pulling/{name_of(IMAGE)}"]
    await after.begin(IMAGE)
    await after.failed(IMAGE)
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["", '{"kind": "ImagePullIntent", "apiVersion": "kubelet.config.k8s.io/v9", "image": "a"}']
)
async def test_an_intent_that_cannot_be_read_lets_nobody_use_the_image(tmp_path: Path, text: str) -> None:
    await opened(tmp_path).begin(IMAGE)
    (path,) = (tmp_path / "image_manager" / "pulling").iterdir()
    path.write_text(text)
    records = opened(tmp_path)
    assert await records.must_pull(IMAGE, REF, [shown()])
    await records.begin(IMAGE)
    await records.succeeded(IMAGE, REF, None)
    assert not await records.must_pull(IMAGE, REF, [])


async def test_directories_that_somebody_removes_are_made_again(tmp_path: Path) -> None:
    records = opened(tmp_path)
    for _ in range(2):
        await records.begin(IMAGE)
        await records.succeeded(IMAGE, REF, None)
        shutil.rmtree(tmp_path / "image_manager")


async def test_two_pulls_of_an_image_share_an_intent(tmp_path: Path) -> None:
    records = opened(tmp_path)
    await records.begin(IMAGE)
    await records.begin(IMAGE)
    await records.failed(IMAGE)
    assert list(files(tmp_path)) == [f"pulling/{name_of(IMAGE)}"]
    await records.succeeded(IMAGE, REF, None)
    assert list(files(tmp_path)) == [f"pulled/{name_of(REF)}"]


async def test_records_of_what_is_gone_are_removed(tmp_path: Path) -> None:
    await pulled(tmp_path)
    await opened(tmp_path).recover([Image(id="sha256:else", repo_tags=(IMAGE,))])
    assert files(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "{", '{"kind": "ImagePulledRecord"}', '{"kind": "Else"}', "\xff"])
async def test_a_record_that_cannot_be_read_is_verified_and_written_again(tmp_path: Path, text: str) -> None:
    await pulled(tmp_path)
    (path,) = (tmp_path / "image_manager" / "pulled").iterdir()
    path.write_text(text)
    records = opened(tmp_path)
    assert await records.must_pull(IMAGE, REF, [])
    await records.begin(IMAGE)
    await records.succeeded(IMAGE, REF, None)
    assert not await records.must_pull(IMAGE, REF, [])
    assert not await opened(tmp_path).must_pull(IMAGE, REF, [])


async def test_an_older_kubelets_record_counts_and_one_of_service_accounts_needs_a_cluster(tmp_path: Path) -> None:
    await pulled(tmp_path, shown())
    (path,) = (tmp_path / "image_manager" / "pulled").iterdir()
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, "apiVersion": "kubelet.config.k8s.io/v1alpha1"}))
    assert not await opened(tmp_path).must_pull(IMAGE, REF, [shown()])
    account = {"kubernetesServiceAccounts": [{"uid": "1", "namespace": "default", "name": "a"}]}
    path.write_text(json.dumps({**record, "credentialMapping": {"registry.io/team/app": account}}))
    assert await opened(tmp_path).must_pull(IMAGE, REF, [shown()])


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("registry.io/app", ""),
        ("registry.io/*", ""),
        (" registry.io/app", "leading/trailing spaces"),
        ("", "too short"),
        ("registry.io/a*", "not a valid wildcard"),
        ("*.io/*", "not a valid wildcard"),
        ("/*", "at least registry hostname"),
        ("registry.io/app:1", "neither tag nor digest"),
        ("registry.io/App", "failed to parse as an image name"),
    ],
)
def test_patterns_of_the_allow_list(pattern: str, problem: str) -> None:
    assert (problem in allowlist_problem(pattern)) if problem else allowlist_problem(pattern) == ""
