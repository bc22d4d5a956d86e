from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass, field

import pytest
from lightkube.models import coordination_v1, core_v1, meta_v1

from kube_objects.encode import (
    parse_rfc3339,
    rfc3339,
    rfc3339_micro,
    rfc3339_nano,
    to_json,
)

NOON = datetime.datetime(2026, 1, 31, 12, 0, 0, 1500, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


def test_empty_fields_are_dropped_and_meaningful_ones_kept() -> None:
    pod = core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="web", labels={}, creationTimestamp=NOON),
        spec=core_v1.PodSpec(
            containers=[core_v1.Container(name="web", env=[core_v1.EnvVar(name="EMPTY", value="")], args=[])],
            volumes=[core_v1.Volume(name="scratch", emptyDir=core_v1.EmptyDirVolumeSource())],
            terminationGracePeriodSeconds=0,
            enableServiceLinks=False,
        ),
    )
    assert to_json(pod) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "creationTimestamp": "2026-01-31T11:00:00Z"},
        "spec": {
            "containers": [{"name": "web", "env": [{"name": "EMPTY", "value": ""}]}],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": False,
        },
    }


def test_required_lists_stay() -> None:
    assert to_json(core_v1.PodSpec(containers=[], volumes=[])) == {"containers": []}


def test_micro_times() -> None:
    spec = coordination_v1.LeaseSpec(renewTime=NOON)
    assert to_json(spec) == {"renewTime": "2026-01-31T11:00:00.001500Z"}


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Own:
    colour: Colour
    parts: tuple[int, ...] = ()
    names: dict[str, int] = field(default_factory=dict)


def test_own_dataclasses() -> None:
    assert to_json(Own(Colour.RED)) == {"colour": "red"}
    assert to_json([Own(Colour.RED, (1, 2), {"a": 1})]) == [{"colour": "red", "parts": [1, 2], "names": {"a": 1}}]


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot encode bytes"):
        to_json({"a": b"x"})


def test_times() -> None:
    assert rfc3339(NOON) == "2026-01-31T11:00:00Z"
    assert rfc3339_micro(NOON) == "2026-01-31T11:00:00.001500Z"
    assert rfc3339_nano(1_000_000_000_120_000_000) == "2001-09-09T01:46:40.120000000Z"
    assert rfc3339_nano(0) == "1970-01-01T00:00:00.000000000Z"
    assert parse_rfc3339("2026-01-31T12:00:00.001500999+01:00") == NOON
    assert parse_rfc3339(rfc3339(NOON)) == NOON.replace(microsecond=0)


@pytest.mark.parametrize(
    "text", ["", "2026-01-31", "2026-01-31 12:00:00Z", "2026-01-31T12:00:00", "2026-13-31T12:00:00Z"]
)
def test_bad_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|month"):
        parse_rfc3339(text)
