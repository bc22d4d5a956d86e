"""What a pod's claims are bound to, and how it is found out, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from lightkube.models import core_v1

from agent.cluster.api_pod import read_api_pod
from agent.cluster.claim_keeper import LONGEST_PAUSE_S, ClaimKeeper
from agent.container_spec.bound_volume import BoundVolume, Storage, is_read_only
from agent.container_spec.labels import API_SOURCE, uid_of
from agent.container_spec.security import supplemental_groups
from agent.pods.entry import pod_to_json
from agent.pods.wanted import Wanted
from agent.volumes.plan import HostPath, LocalVolume, NfsVolume, Unbound, plan_volumes
from daemonkit.tasks import spawn
from kube_client.errors import StatusError, UnreachableError
from kube_client.list_watch import Stored
from kube_client.messages import Item
from kube_client.record import Record
from tests.unit.agent.cluster.fake_pods_api import api_pod

CLAIM = "/api/v1/namespaces/default/persistentvolumeclaims/mine"
VOLUME = "/api/v1/persistentvolumes/pv"
OF_CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "mine"}}
EPHEMERAL = {"name": "mine", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}
LABELS = {"kubernetes.io/hostname": "node1"}


def claim(phase: str = "Bound", volume: str = "pv", **more: Any) -> dict[str, Any]:
    metadata = {"name": "mine", "namespace": "default", "uid": "claim-uid", **more.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"volumeName": volume, **more}, "status": {"phase": phase}}


def volume(**spec: Any) -> dict[str, Any]:
    reference = {"uid": "claim-uid", "name": "mine", "namespace": "default"}
    return {"metadata": {"name": "pv"}, "spec": {"claimRef": reference, **spec}}


def wanted(name: str = "a", *volumes: dict[str, Any], **spec: Any) -> Wanted:
    made = api_pod(name, volumes=list(volumes) or [OF_CLAIM], **spec)
    return Wanted(read_api_pod(json.dumps(made).encode()).pod, API_SOURCE)


class Api:
    """Answers what a test has put there."""

    def __init__(self, answers: Mapping[str, dict[str, Any]]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.away = False

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        self.asked.append(path)
        if self.away:
            raise UnreachableError(f"cannot GET {path}: Connection refused")
        if path not in self.answers:
            raise StatusError(f"cannot GET {path}: not found", 404, "NotFound")
        return json.dumps(self.answers[path]).encode()

    async def send(self, *_: Any) -> bytes:
        raise AssertionError("nothing is written")


class Keeping:
    """A keeper at work, and the pods as the workers would have them."""

    def __init__(self, api: Api, record: Record | None = None) -> None:
        self.changed: list[str] = []
        self.running: list[core_v1.Pod] = []
        stream = record.stream("claims") if record else None
        self.keeper = ClaimKeeper(api, lambda: ("node1", LABELS), lambda: self.running, self.changed.append, stream)

    def bound(self, *pods: Wanted) -> list[core_v1.Pod]:
        return [one.pod for one in self.keeper.bound(pods)]


@contextlib.asynccontextmanager
async def keeping(api: Api, record: Record | None = None) -> AsyncIterator[Keeping]:
    made = Keeping(api, record)
    async with asyncio.TaskGroup() as group:
        task = spawn(group, made.keeper.run(), name="claims")
        yield made
        task.cancel()


async def found(pod: Wanted, **answers: dict[str, Any]) -> Any:
    """What the first volume of the pod is planned as."""
    paths = {"claim": CLAIM, "pv": VOLUME}
    async with keeping(Api({paths[name]: answer for name, answer in answers.items()})) as one:
        one.bound(pod)
        await asyncio.sleep(0.1)
        return plan_volumes(one.bound(pod)[0], "/root")[0]


@pytest.mark.looptime
async def test_each_kind_of_storage_is_planned_as_the_volume_it_is() -> None:
    export = {"server": "2001:db8::1", "path": "/x"}
    nfs = await found(wanted(), claim=claim(), pv=volume(nfs=export, mountOptions=["nfsvers=4", "soft"]))
    assert isinstance(nfs, NfsVolume)
    assert (nfs.export, nfs.read_only, nfs.mount_options) == ("[2001:db8::1]:/x", False, ("nfsvers=4", "soft"))
    older = volume(nfs=export, mountOptions=["soft"])
    older["metadata"]["annotations"] = {"volume.beta.kubernetes.io/mount-options": "nfsvers=3,hard"}
    assert (await found(wanted(), claim=claim(), pv=older)).mount_options == ("nfsvers=3", "hard")
    path = await found(wanted(), claim=claim(), pv=volume(hostPath={"path": "/x", "type": "Directory"}))
    assert path == HostPath("data", "/x", "Directory")
    security = {"fsGroup": 7, "fsGroupChangePolicy": "OnRootMismatch"}
    local = await found(wanted(securityContext=security), claim=claim(), pv=volume(local={"path": "/x"}))
    place = "/root/pods/uid-a/volumes/kubernetes.io~local-volume/data"
    assert local == LocalVolume("data", "/x", place, 7, unless_root=True)


@pytest.mark.looptime
@pytest.mark.parametrize(("told", "groups"), [("70", (5, 9, 70)), ("9", (5, 9)), ("ops", (5, 9))])
async def test_processes_are_in_the_group_that_a_volume_names(told: str, groups: tuple[int, ...]) -> None:
    pod = wanted(securityContext={"fsGroup": 5, "supplementalGroups": [9]})
    pv = volume(nfs={"server": "s", "path": "/x"})
    pv["metadata"]["annotations"] = {"pv.beta.kubernetes.io/gid": told}
    async with keeping(Api({CLAIM: claim(), VOLUME: pv})) as one:
        one.bound(pod)
        await asyncio.sleep(0.1)
        assert supplemental_groups(one.bound(pod)[0]) == groups
    assert supplemental_groups(pod.pod) == (5, 9)


@pytest.mark.looptime
async def test_what_may_only_be_read_stays_as_it_is() -> None:
    read_only = {"name": "data", "persistentVolumeClaim": {"claimName": "mine", "readOnly": True}}
    pod = wanted("a", read_only, securityContext={"fsGroup": 7})
    async with keeping(Api({CLAIM: claim(), VOLUME: volume(local={"path": "/x"})})) as one:
        one.bound(pod)
        await asyncio.sleep(0.1)
        (made,) = one.bound(pod)
        assert made.spec is not None
        assert is_read_only((made.spec.volumes or [])[0])
        (local,) = plan_volumes(made, "/root")
        assert isinstance(local, LocalVolume)
        assert local.group_id is None


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("pod", "answers", "said"),
    [
        (wanted(), {}, "failed to fetch it from the API server"),
        (wanted(), {"claim": claim("Pending", "")}, "PVC is not bound"),
        (wanted(), {"claim": claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})}, "PVC is being deleted"),
        (wanted(), {"claim": claim()}, "failed to fetch it from the API server"),
        (wanted(), {"claim": claim(), "pv": {"metadata": {"name": "pv"}, "spec": {}}}, "nil pv.Spec.ClaimRef"),
        (wanted(), {"claim": claim(metadata={"uid": "another"}), "pv": volume()}, "bound to another claim"),
        (
            wanted(),
            {"claim": claim(), "pv": volume(csi={"driver": "d", "volumeHandle": "h"})},
            "PV pv is csi: this node mounts hostPath, local and nfs only",
        ),
        (
            wanted(),
            {"claim": claim(), "pv": volume(local={"path": "/x"}, volumeMode="Block")},
            "volume data has volumeMode Block",
        ),
        (
            wanted(),
            {
                "claim": claim(),
                "pv": volume(
                    local={"path": "/x"},
                    nodeAffinity={
                        "required": {
                            "nodeSelectorTerms": [
                                {
                                    "matchExpressions": [
                                        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node2"]}
                                    ]
                                }
                            ]
                        }
                    },
                ),
            },
            "no matching NodeSelectorTerms",
        ),
        (
            wanted(),
            {"claim": claim(), "pv": volume(hostPath={"path": "/x"}, mountOptions=["ro"])},
            "PV pv: mount options are not supported for this volume type",
        ),
        (
            wanted(),
            {"claim": claim(), "pv": volume(local={"path": "/x"}, mountOptions=["noexec"])},
            "PV pv: mountOptions of a local volume are not supported yet",
        ),
        (wanted("a", {**EPHEMERAL}), {}, "PVC default/a-mine: failed to fetch"),
        (wanted(), {"claim": {"spec": 5}}, "cannot read the claim or its volume"),
    ],
)
async def test_what_cannot_be_mounted_says_why(pod: Wanted, answers: dict[str, Any], said: str) -> None:
    unbound = await found(pod, **answers)
    assert isinstance(unbound, Unbound)
    assert said in unbound.problem


@pytest.mark.looptime
@pytest.mark.parametrize("owner", ["uid-a", "uid-of-another"])
async def test_a_claim_of_its_own_was_made_for_this_pod(owner: str) -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": owner, "controller": True}]
    path = CLAIM.replace("mine", "a-mine")
    api = Api({path: claim(metadata={"ownerReferences": owners}), VOLUME: volume(hostPath={"path": "/x"})})
    pod = wanted("a", EPHEMERAL)
    async with keeping(api) as one:
        one.bound(pod)
        await asyncio.sleep(0.1)
        (planned,) = plan_volumes(one.bound(pod)[0], "/root")
    assert isinstance(planned, HostPath if owner == "uid-a" else Unbound)
    assert owner == "uid-a" or "(pod is not owner)" in getattr(planned, "problem", "")


@pytest.mark.looptime
async def test_a_pod_is_the_same_object_until_something_is_known_and_is_told_then() -> None:
    api = Api({})
    pod, other = wanted(), wanted("b", {"name": "x", "emptyDir": {}})
    async with keeping(api) as one:
        first = one.bound(pod, other)
        assert first[1] is other.pod
        (unknown,) = plan_volumes(first[0], "/root")
        assert unknown == Unbound("data", "", "")
        await asyncio.sleep(0.1)
        assert one.changed == ["uid-a"]
        second = one.bound(pod, other)
        assert second[0] is not first[0]
        await asyncio.sleep(60)
        assert one.changed == ["uid-a"]  # nothing new, nobody is told
        assert one.bound(pod, other)[0] is second[0]
        assert 5 < len(api.asked) < 15
        api.answers = {CLAIM: claim(), VOLUME: volume(hostPath={"path": "/x"})}
        await asyncio.sleep(LONGEST_PAUSE_S)
        assert one.changed == ["uid-a", "uid-a"]
        third = one.bound(pod, other)
        assert plan_volumes(third[0], "/root") == (HostPath("data", "/x", ""),)
        asked = len(api.asked)
        api.away = True
        await asyncio.sleep(600)
        assert len(api.asked) == asked
        assert one.bound(pod, other)[0] is third[0]
        shown: Any = pod_to_json(third[0], "", "", "")
        assert shown["spec"]["volumes"] == [OF_CLAIM]


@pytest.mark.looptime
async def test_a_claim_for_one_pod_is_free_again_when_that_pod_is_gone() -> None:
    api = Api({CLAIM: claim(accessModes=["ReadWriteOncePod"]), VOLUME: volume(hostPath={"path": "/x"})})
    one, two = wanted("a"), wanted("b")
    async with keeping(api) as made:
        made.bound(one)
        await asyncio.sleep(0.1)
        made.bound(one, two)
        await asyncio.sleep(10)
        first, second = made.bound(one, two)
        assert isinstance(plan_volumes(first, "/root")[0], HostPath)
        (refused,) = plan_volumes(second, "/root")
        assert isinstance(refused, Unbound)
        assert "already in use by another pod" in refused.problem
        made.bound(two)
        await asyncio.sleep(LONGEST_PAUSE_S)
        assert isinstance(plan_volumes(made.bound(two)[0], "/root")[0], HostPath)


@pytest.mark.looptime
async def test_a_claim_for_one_pod_is_not_free_while_a_process_of_its_user_is_alive() -> None:
    api = Api({CLAIM: claim(accessModes=["ReadWriteOncePod"]), VOLUME: volume(hostPath={"path": "/x"})})
    one, two = wanted("b"), wanted("a")
    async with keeping(api) as made:
        made.running = [one.pod]  # an agent that begins anew, or a pod deleted by force: nobody wants it any more
        made.bound(two)
        await asyncio.sleep(10)
        assert isinstance(plan_volumes(made.bound(two)[0], "/root")[0], Unbound)
        made.running = [two.pod]
        await asyncio.sleep(LONGEST_PAUSE_S)
        assert isinstance(plan_volumes(made.bound(two)[0], "/root")[0], HostPath)


@pytest.mark.looptime
async def test_a_pod_that_is_over_has_no_claim_and_is_not_asked_about() -> None:
    api = Api({CLAIM: claim(accessModes=["ReadWriteOncePod"]), VOLUME: volume(hostPath={"path": "/x"})})
    one, two = wanted("a"), wanted("b")
    async with keeping(api) as made:
        made.bound(one)
        await asyncio.sleep(0.1)
        over = {**api_pod("a", volumes=[OF_CLAIM]), "status": {"phase": "Succeeded"}}
        one = Wanted(read_api_pod(json.dumps(over).encode()).pod, API_SOURCE)
        assert made.bound(one, two)[0] is one.pod
        await asyncio.sleep(0.1)
        assert isinstance(plan_volumes(made.bound(one, two)[1], "/root")[0], HostPath)
        asked = len(api.asked)
        await asyncio.sleep(600)
        assert len(api.asked) == asked


@pytest.mark.looptime
async def test_what_was_found_counts_after_a_start_without_the_server(tmp_path: Path) -> None:
    record = Record(tmp_path, tmp_path / "key")
    record.open()
    api = Api({CLAIM: claim(accessModes=["ReadWriteOncePod"]), VOLUME: volume(hostPath={"path": "/x"})})
    pod, other = wanted("b"), wanted("a")
    gone = wanted("c", {"name": "data", "persistentVolumeClaim": {"claimName": "none"}})
    async with keeping(api, record) as made:
        made.bound(pod, gone)
        await asyncio.sleep(1)
    api.away = True
    async with keeping(api, record) as made:
        assert isinstance(plan_volumes(made.bound(other, pod)[1], "/root")[0], HostPath)
        api.away = False
        await asyncio.sleep(60)
        first, second = made.bound(other, pod)
        assert isinstance(plan_volumes(second, "/root")[0], HostPath)
        assert "already in use" in getattr(plan_volumes(first, "/root")[0], "problem", "")
        made.bound()
    assert record.stream("claims").last() == ()


@pytest.mark.looptime
async def test_what_another_version_wrote_down_of_claims_is_asked_for_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = Record(tmp_path, tmp_path / "key")
    record.open()
    pod = wanted("b")
    record.stream("claims").take(Stored(Item((uid_of(pod.pod), ""), uid_of(pod.pod), "", b'{"storage": 7}')))
    async with keeping(Api({CLAIM: claim(), VOLUME: volume(hostPath={"path": "/x"})}), record) as made:
        assert "claims of pod" in caplog.text
        made.bound(pod)
        await asyncio.sleep(1)
        assert isinstance(plan_volumes(made.bound(pod)[0], "/root")[0], HostPath)


def test_storage_that_was_found_is_part_of_what_makes_two_pods_equal() -> None:
    one = BoundVolume(name="a", bound=Storage(kind="local", path="/x"))
    assert one != BoundVolume(name="a", bound="not yet")
