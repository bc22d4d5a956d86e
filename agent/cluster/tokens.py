"""The tokens of service accounts that pods have in projected volumes: asked for, kept, renewed in time.  I/O.

Before: `agent/pods/execute` asks when it writes a pod's volumes.  Next: `agent/volumes/payload` puts them into files.
A token is bound to its pod and is renewed when 80 % of its time, or a day, is over; while that fails, it is tried more
and more seldom, and the old one serves as long as it is good.  Source: TokenRequest API; Kubernetes documentation,
"Service account token volume projection".
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
from lightkube.models.core_v1 import Pod

from agent.cluster.protocols import Api
from agent.cluster.requests import JSON
from agent.container_spec.facts import TokenKey
from agent.container_spec.labels import uid_of
from agent.volumes.payload import TOKEN_S
from daemonkit.pauses import growing_pause_s
from kube_client.errors import ApiError
from kube_client.list_watch import Removed, Stored
from kube_client.messages import Item, decode_object
from kube_client.record import StreamRecord
from kube_objects.encode import parse_rfc3339

DAY_S = 86400.0
SHARE = 0.8
JITTER_S = 10.0
RETRY_FIRST_S = 10.0
RETRY_MAX_S = 300.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Token:
    """One token; times in Unix seconds."""

    text: bytes = field(repr=False)
    renew_s: float
    expires_s: float


class _Status(msgspec.Struct):
    token: str
    expirationTimestamp: str  # noqa: N815 - the API's name


class _Answer(msgspec.Struct):
    status: _Status


class TokenKeeper:
    """`on_due(uid)` is called when a token of that pod is to be renewed: its volumes are to be written again."""

    def __init__(
        self,
        client: Api,
        on_due: Callable[[str], None],
        record: StreamRecord | None = None,
        *,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._on_due = on_due
        self._now = now
        self._chance = chance
        self._tokens: dict[str, dict[TokenKey, Token]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, int] = {}
        self._said: dict[str, str] = {}
        self._record = record
        for item in (record.last() if record is not None else None) or ():
            self._recall(item)

    async def tokens_of(self, pod: Pod) -> Mapping[TokenKey, bytes | str]:
        """Of each token that the pod's volumes want the text, or as str why there is none."""
        found: dict[TokenKey, bytes | str] = {}
        for key in dict.fromkeys(wanted_tokens(pod)):
            found[key] = await self._token(pod, key)
        self._set_timer(uid_of(pod))
        return found

    def keep_only(self, uids: set[str]) -> None:
        """Forget those of all other pods."""
        for uid in self._tokens.keys() - uids:
            del self._tokens[uid]
            if self._record is not None:
                self._record.take(Removed(Item((uid, ""), uid, "", b"")))
            self._note_renewed(uid)
            if (timer := self._timers.pop(uid, None)) is not None:
                timer.cancel()

    async def _token(self, pod: Pod, key: TokenKey) -> bytes | str:
        kept = self._tokens.setdefault(uid_of(pod), {})
        known, now_s = kept.get(key), self._now()
        if known is not None and now_s < known.renew_s:
            return known.text
        try:
            kept[key] = await self._request(pod, key)
        except (ApiError, ValueError, RecursionError) as error:
            if known is not None and now_s < known.expires_s:
                self._say(uid_of(pod), error)
                return known.text
            return f"failed to fetch token: {error}"
        self._write_down(uid_of(pod))
        return kept[key].text

    def _write_down(self, uid: str) -> None:
        if self._record is not None:
            raw = msgspec.json.encode(
                [(*key, one.text, one.renew_s, one.expires_s) for key, one in self._tokens[uid].items()]
            )
            self._record.take(Stored(Item((uid, ""), uid, "", raw)))

    def _recall(self, item: Item) -> None:
        try:
            found = msgspec.json.decode(item.raw, type=list[tuple[str, int, bytes, float, float]])
        except ValueError as error:  # another version of the agent wrote it
            _log.warning("cannot read what was written down of the tokens of pod %s: %s", item.uid, error)
            return
        self._tokens[item.uid] = {(one[0], one[1]): Token(*one[2:]) for one in found}

    async def _request(self, pod: Pod, key: TokenKey) -> Token:
        metadata, spec = pod.metadata, pod.spec
        account = (spec.serviceAccountName if spec else None) or "default"
        path = f"/api/v1/namespaces/{metadata.namespace if metadata else ''}/serviceaccounts/{account}/token"
        asked_s = self._now()
        answer = await self._client.send("POST", path, msgspec.json.encode(token_request(pod, key)), JSON)
        status = decode_object(answer, _Answer).status
        expires_s = parse_rfc3339(status.expirationTimestamp).timestamp()
        life_s = min(SHARE * (expires_s - asked_s), DAY_S) - JITTER_S * self._chance()
        return Token(status.token.encode(), asked_s + max(1.0, life_s), expires_s)

    def _set_timer(self, uid: str) -> None:
        if (timer := self._timers.pop(uid, None)) is not None:
            timer.cancel()
        due = [one.renew_s for one in self._tokens.get(uid, {}).values()]
        if due:
            wait_s = self._wait_s(uid, min(due) - self._now())
            self._timers[uid] = asyncio.get_running_loop().call_later(wait_s, self._on_due, uid)

    def _wait_s(self, uid: str, left_s: float) -> float:
        """Until the pod's next renewal; where one is due still, it has just failed, and the pods do not try in step."""
        if left_s > 0:
            self._note_renewed(uid)
            return max(JITTER_S, left_s)
        failures = self._failures[uid] = self._failures.get(uid, 0) + 1
        return growing_pause_s(failures, RETRY_FIRST_S, RETRY_MAX_S) * (0.5 + self._chance())

    def _note_renewed(self, uid: str) -> None:
        self._failures.pop(uid, None)
        self._said.pop(uid, None)

    def _say(self, uid: str, error: Exception) -> None:
        if self._said.get(uid) != str(error):
            self._said[uid] = str(error)
            _log.warning("cannot renew a token of pod %s: %s; the old one serves on", uid, error)


def wanted_tokens(pod: Pod) -> Iterator[TokenKey]:
    """(audience, seconds) of each token in the pod's volumes; "" is the API server's own audience. Pure."""
    for volume in (pod.spec.volumes if pod.spec else None) or ():
        for part in (volume.projected.sources if volume.projected else None) or ():
            if part.serviceAccountToken is not None:
                yield part.serviceAccountToken.audience or "", part.serviceAccountToken.expirationSeconds or TOKEN_S


def token_request(pod: Pod, key: TokenKey) -> dict[str, object]:
    """The TokenRequest for a token of the pod. Pure."""
    audience, seconds = key
    name = (pod.metadata.name if pod.metadata else None) or ""
    bound = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid_of(pod)}
    spec = {"audiences": [audience] if audience else None, "expirationSeconds": seconds, "boundObjectRef": bound}
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
