"""Happenings -> Event objects: what repeats is counted, what is alike is combined, who tells too much is cut short.

Pure.  Before: `events` takes happenings in.  Next: it sends what this says.  The rules are client-go's: 25 events of
one pod at once and then one each five minutes; more than ten texts of one reason within ten minutes become one.
"""

from __future__ import annotations

import datetime
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lightkube.models.core_v1 import Pod

from agent.pods.happenings import Happening
from kube_objects.encode import rfc3339

BURST = 25
REFILL_S = 300.0
ALIKE = 10
ALIKE_S = 600.0
KEPT = 4096
COMBINED = "(combined from similar events): "
MESSAGE_BYTES = 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subject:
    """The object that it happened to; a Node has no namespace, and its events are told in `default`.

    `pod` says which kind of container a name is.
    """

    namespace: str
    name: str
    uid: str
    kind: str = "Pod"
    pod: Pod | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """An Event to create, or with `name` to change: then `body` is a merge patch, and `whole` what to create if it is
    gone.
    """

    namespace: str
    body: dict[str, Any]
    name: str = ""
    whole: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


@dataclass(slots=True)
class _Alike:
    texts: set[str]
    at_s: float


class EventLog:
    """Remembers what has been told, at most KEPT of each."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._alike: OrderedDict[tuple[str, ...], _Alike] = OrderedDict()
        self._told: OrderedDict[tuple[str, ...], dict[str, Any]] = OrderedDict()
        self._number = 0

    def take(self, subject: Subject, one: Happening, now_s: float) -> Write | None:
        """What to send; None for one too much."""
        text = one.message.encode()[:MESSAGE_BYTES].decode(errors="ignore")
        kind = (subject.uid, one.container, one.reason, str(one.warning))
        if self._are_too_many(kind, text, now_s):
            text, key = f"{COMBINED}{text}"[:MESSAGE_BYTES], (*kind, COMBINED)
        else:
            key = (*kind, text)
        if not self._may_tell(subject.uid, now_s):
            return None
        known = self._told.get(key)
        if known is None:
            made = self._event(subject, one, text, now_s)
            _keep(self._told, key, made)
            return Write(made["metadata"]["namespace"], made)
        change = {"count": known["count"] + 1, "lastTimestamp": _time(now_s), "message": text}
        whole = {**known, **change}
        _keep(self._told, key, whole)
        return Write(known["metadata"]["namespace"], change, known["metadata"]["name"], whole)

    def _are_too_many(self, kind: tuple[str, ...], text: str, now_s: float) -> bool:
        found = self._alike.get(kind)
        if found is None or now_s - found.at_s > ALIKE_S:
            found = _Alike(set(), now_s)
        if len(found.texts) <= ALIKE:
            found.texts.add(text)
        found.at_s = now_s
        _keep(self._alike, kind, found)
        return len(found.texts) > ALIKE

    def _may_tell(self, uid: str, now_s: float) -> bool:
        found = self._buckets.get(uid) or _Bucket(float(BURST), now_s)
        found.tokens = min(float(BURST), found.tokens + max(0.0, now_s - found.at_s) / REFILL_S)
        found.at_s = now_s
        _keep(self._buckets, uid, found)
        if found.tokens < 1.0:
            return False
        found.tokens -= 1.0
        return True

    def _event(self, subject: Subject, one: Happening, text: str, now_s: float) -> dict[str, Any]:
        self._number += 1
        name = f"{subject.name}.{int(now_s * 1e9) + self._number:x}"
        reference = {
            "apiVersion": "v1", "kind": subject.kind, "name": subject.name, "uid": subject.uid,
            **({"namespace": subject.namespace} if subject.namespace else {}),
            **({"fieldPath": _field_path(subject.pod, one.container)} if one.container else {}),
        }  # fmt: skip
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": subject.namespace or "default", "name": name},
            "involvedObject": reference,
            "reason": one.reason,
            "message": text,
            "type": "Warning" if one.warning else "Normal",
            "source": {"component": "kubelet", "host": self._node_name},
            "reportingComponent": "kubelet",
            "reportingInstance": self._node_name,
            "firstTimestamp": _time(now_s),
            "lastTimestamp": _time(now_s),
            "count": 1,
        }


def _field_path(pod: Pod | None, container: str) -> str:
    spec = pod.spec if pod is not None else None
    for kind in ("initContainers", "ephemeralContainers"):
        if any(one.name == container for one in getattr(spec, kind, None) or ()):
            return f"spec.{kind}{{{container}}}"
    return f"spec.containers{{{container}}}"


def _keep(held: OrderedDict[Any, T], key: object, value: T) -> None:
    held[key] = value
    held.move_to_end(key)
    if len(held) > KEPT:
        held.popitem(last=False)


def _time(now_s: float) -> str:
    return rfc3339(datetime.datetime.fromtimestamp(now_s, datetime.UTC))
