"""What the workers are told of a Pod of an API server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.cluster.api_pod import ApiPod, read_api_pod
from agent.container_spec.labels import CONFIG_MIRROR


def read(before: ApiPod | None = None, **metadata: Any) -> ApiPod:
    spec = {"containers": [{"name": "main", "image": "busybox"}]}
    value = {"metadata": {"name": "web", "namespace": "default", "uid": "u", **metadata}, "spec": spec}
    return read_api_pod(json.dumps(value).encode(), before)


def test_what_matters_here_is_a_change_and_a_new_version_alone_is_none() -> None:
    before = read(resourceVersion="1")
    assert read(before, resourceVersion="2") is before
    assert read(before, labels={"a": "b"}) is not before
    ending = read(before, deletionTimestamp="2026-01-01T00:00:00Z")
    assert (ending is not before, ending.ending is not None) == (True, True)


def test_cve_2025_4563_a_pod_with_the_mirror_annotation_is_a_picture_whatever_the_annotation_holds() -> None:
    before = read()
    assert (before.mirrored, read(annotations={CONFIG_MIRROR: ""}).mirrored) == (None, "")
    mirror = read(before, annotations={CONFIG_MIRROR: "abc"})
    assert (mirror.mirrored, mirror.refused) == ("abc", None)
    assert read(mirror, annotations={CONFIG_MIRROR: "def"}).mirrored == "def"


@pytest.mark.parametrize(("grace_s", "left_s"), [(None, None), (0, 1.0), (1, 1.0), (30, 30.0)])
def test_a_pod_that_is_deleted_at_once_still_has_a_second(grace_s: int | None, left_s: float | None) -> None:
    found = read(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=grace_s).ending
    assert found is not None
    assert found.grace_s == left_s
