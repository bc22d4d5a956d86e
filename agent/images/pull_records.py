"""What the node remembers of its pulls: files below ROOT-DIR/image_manager, in the kubelet's own layout. I/O.

Before: puller.py is about to pull, or has found an image on the node.  Next: pull_policy.py decides by what is written
here.  `pulling/` holds an intent for each pull under way, written before the runtime is asked, so that an image that
came while the agent was killed is not taken for one that was always there; `pulled/` a record for each image.  All of
it is read once: this agent is the only writer.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.images.keyring import Credential
from agent.images.names import parse_image_name, with_default_tag, without_tag
from agent.images.pull_policy import (
    ImagePulledRecord,
    ImagePullIntent,
    PullCredentials,
    VerificationPolicy,
    credentials_of,
    fitting_secret,
    merge_credentials,
)
from cri_client.types import Image
from daemonkit.files import remove_durably, remove_half_written, write_atomic
from kube_objects.encode import rfc3339

T = TypeVar("T", ImagePullIntent, ImagePulledRecord)
_log = logging.getLogger(__name__)


class PullRecords:
    """The records below `root`. `policy` says what they count for; `now` is Unix seconds."""

    def __init__(self, root: Path, policy: VerificationPolicy, now: Callable[[], float]) -> None:
        self._pulling, self._pulled = (root / "image_manager" / name for name in ("pulling", "pulled"))
        self._policy = policy
        self._now = now
        self._turn = asyncio.Lock()
        self._under_way: Counter[str] = Counter()
        self._intents: set[str] = set()
        self._records: dict[str, ImagePulledRecord] = {}
        self._broken: set[str] = set()
        self._read()

    @property
    def empty(self) -> bool:
        """Whether nothing is known of any pull."""
        return not self._records and not self._intents

    async def begin(self, image: str) -> None:
        """An image (its name as the pod has it) is about to be pulled.  Raises OSError."""
        async with self._turn:
            intent = ImagePullIntent(image=image)
            path = self._pulling / _file_name(image)
            await asyncio.to_thread(_write, path, intent)
            self._broken.discard(path.name)
            self._intents.add(image)
            self._under_way[image] += 1

    async def failed(self, image: str) -> None:
        """A pull that `begin` was called for has failed."""
        async with self._turn:
            await self._end(image)

    async def succeeded(self, image: str, image_ref: str, shown: Credential | None) -> None:
        """A pull that `begin` was called for has succeeded with `shown`, None where nothing was shown."""
        async with self._turn:
            # Where the record cannot be written the intent stays: the image counts as pulled all the same.
            if await self._learn(image, image_ref, credentials_of(shown)):
                await self._end(image)

    async def must_pull(self, image: str, image_ref: str, shown: Iterable[Credential]) -> bool:
        """Whether a pod that has `shown` must pull an image that is here, because nothing says that it may use it."""
        record = self._records.get(image_ref)
        broken = not self._broken.isdisjoint((_file_name(image_ref), _file_name(image)))
        pulled_here = broken or record is not None or image in self._intents
        if not self._policy.must_verify(image, pulled_here=pulled_here):
            return False
        if broken or record is None:
            return True
        good, learned = fitting_secret(record.credential_mapping, image, shown)
        if learned is not None:
            async with self._turn:
                await self._learn(image, image_ref, learned)
        return not good

    async def recover(self, images: Iterable[Image]) -> None:
        """After a start, with all images of the runtime: what came while no agent looked counts as pulled by one, and
        records of what is gone are removed."""
        present = {image.id: {_normal(name) for name in (*image.repo_tags, *image.repo_digests)} for image in images}
        async with self._turn:
            for intent in sorted(self._intents - self._under_way.keys()):
                for image_ref in [one for one, names in present.items() if _normal(intent) in names]:
                    if await self._learn(intent, image_ref, None):
                        await self._end(intent)
            for image_ref in self._records.keys() - present.keys():
                if await self._done(remove_durably, self._pulled / _file_name(image_ref)):
                    del self._records[image_ref]

    async def _learn(self, image: str, image_ref: str, new: PullCredentials | None) -> bool:
        known = self._records.get(image_ref)
        mapping = dict(known.credential_mapping) if known is not None else {}
        if new is not None:
            name = without_tag(image)
            mapping[name] = merge_credentials(mapping.get(name), new)
        if known is not None and mapping == known.credential_mapping:
            return True
        at = rfc3339(datetime.fromtimestamp(self._now(), UTC))
        record = ImagePulledRecord(last_updated_time=at, image_ref=image_ref, credential_mapping=mapping)
        path = self._pulled / _file_name(image_ref)
        if not await self._done(_write, path, record):
            return False
        self._records[image_ref] = record
        self._broken.discard(path.name)
        return True

    async def _end(self, image: str) -> None:
        self._under_way[image] -= 1
        if self._under_way[image] > 0:
            return
        del self._under_way[image]
        if await self._done(remove_durably, self._pulling / _file_name(image)):
            self._intents.discard(image)

    @staticmethod
    async def _done(work: Callable[..., None], path: Path, *arguments: object) -> bool:
        try:
            await asyncio.to_thread(work, path, *arguments)
        except OSError as error:
            _log.warning("cannot keep %s: %s; the image will be verified again", path, error.strerror or error)
            return False
        return True

    def _read(self) -> None:
        for directory in (self._pulling, self._pulled):
            remove_half_written(directory)
        self._intents = {
            intent.image for intent in self._read_all(self._pulling, ImagePullIntent, lambda one: one.image)
        }
        records = self._read_all(self._pulled, ImagePulledRecord, lambda one: one.image_ref)
        self._records = {record.image_ref: record for record in records}

    def _read_all(self, directory: Path, kind: type[T], name: Callable[[T], str]) -> Iterable[T]:
        for path in sorted(directory.glob("sha256-*")):
            if path.name.endswith(".tmp") or not path.is_file():
                continue
            try:
                found = msgspec.json.decode(path.read_bytes(), type=kind)
                if path.name != _file_name(name(found)):
                    raise ValueError(f"it is about {name(found)!r}, which has another file")
            except (OSError, ValueError) as error:  # what msgspec raises is one
                self._broken.add(path.name)
                _log.warning("cannot read %s: %s; the image will be verified again", path, error)
            else:
                yield found


def _write(path: Path, value: ImagePullIntent | ImagePulledRecord) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, msgspec.json.encode(value) + b"\n")


def _file_name(text: str) -> str:
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"


def _normal(image: str) -> str:
    """One spelling for all names of an image: with host and tag; a digest makes the tag needless."""
    try:
        name = parse_image_name(with_default_tag(image))
    except ValueError:
        return image
    return f"{name.host}/{name.path}@{name.digest}" if name.digest else str(name)
