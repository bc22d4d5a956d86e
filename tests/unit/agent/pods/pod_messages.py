"""What a pod becomes on its way out, for case files: CRI messages, volumes, requests of probes and hooks, verdicts.

What a case may expect (parts of it, see `check`): `sandbox`, `container NAME` (the CRI's messages), `handler` (of the
sandbox), `hosts` (lines of /etc/hosts), `volume NAME` (what is planned), `files NAME` (path -> mode and text), `images
NAME` (volume -> image and policy that a container brings), `asks NAME` (what probes and hooks ask), `credentials`
(of pull secrets), `admission` (its reason, "" for none) and `priority` (at a shutdown of the node).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from lightkube.models.core_v1 import Container, Pod, PodSpec, Volume

from agent.admission import Admitted, admit
from agent.container_spec.container import container_config
from agent.container_spec.dns import hosts_file
from agent.container_spec.facts import HandlerFacts, ImageUser, NodeFacts, SpecError, allocatable
from agent.container_spec.sandbox import sandbox_config
from agent.container_spec.security import ID_RANGE
from agent.images.keyring import pull_secrets
from agent.images.puller import PulledImage
from agent.images.volume_images import pull_volume_images
from agent.pods.hook import parse_pre_stop, post_start_of
from agent.probes.plan import plan_probes
from agent.shutdown.schedule import priority_of
from agent.sources.manifest import parse_manifest
from agent.sources.runtime_class import handler_of, with_runtime_class
from agent.volumes.payload import PayloadError, volume_payload
from agent.volumes.plan import plan_volumes, volume_paths
from cri_client import types as cri
from kube_objects.config_data import ConfigData, ConfigObjects
from tests.unit.agent.sources.test_manifest_cases import FACTS, plain

# By what the members of a list are told apart.
NAMED = ("mountPath", "name", "type", "key", "container_path", "container_port")


class Messages:
    """Of one pod; `facts` are those of the node and of the objects beside it."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.image_user = ImageUser(uid=0)
        own_users = self._spec.hostUsers is False
        ips = FACTS.node.node_ips if self._spec.hostNetwork else FACTS.pod_ips
        self.facts = dataclasses.replace(FACTS, pod_ips=ips, user_range=ID_RANGE if own_users else None)

    # What there is.

    def on_objects(self, manifests: list[object]) -> None:
        parsed = [parse_manifest(json.dumps(one).encode(), "/manifests/object.yaml", "node1") for one in manifests]
        found = [one for one in parsed if isinstance(one, ConfigData)]
        self.facts = dataclasses.replace(self.facts, objects=ConfigObjects(found))
        self.pod = with_runtime_class(self.pod, self.facts.objects)

    def on_node(self, facts: Mapping[str, object]) -> None:
        node = msgspec.convert({**msgspec.to_builtins(self.facts.node), **facts}, NodeFacts)
        self.facts = dataclasses.replace(self.facts, node=node)

    def on_image_user(self, user: Mapping[str, Any]) -> None:
        self.image_user = ImageUser(**user)

    # What must come of it.

    def on_sandbox(self, expected: object) -> None:
        try:
            found = plain(sandbox_config(self.pod, 0, self.facts))
        except SpecError as error:
            found = {error.reason: str(error)}
        check(found, expected, "sandbox")

    def on_handler(self, expected: object) -> None:
        assert handler_of(self.pod, self.facts.objects) == expected

    def on_hosts(self, expected: list[str]) -> None:
        lines = hosts_file(self.pod, self.facts, node_hosts="127.0.0.1\tthe-node\n").splitlines()
        assert [one for one in expected if one not in lines] == [], f"the file is {lines}"

    def on_credentials(self, expected: object) -> None:
        credentials, complaints = pull_secrets(self.pod, self.facts.objects)
        assert [*(f"{one.auth.username} at {one.pattern}" for one in credentials), *complaints] == expected

    def on_admission(self, expected: str) -> None:
        verdict = admit(self.pod, self.facts.node, [])
        assert ("" if isinstance(verdict, Admitted) else verdict.reason) == expected, f"it is {verdict}"

    def on_priority(self, expected: int) -> None:
        assert priority_of(self.pod) == expected, f"it is {priority_of(self.pod)}"

    def expect(self, what: str, name: str, expected: object) -> None:
        """What has a name: of a container or a volume."""
        found = {
            "container": self._container,
            "asks": self._asks,
            "images": self._images,
            "volume": self._volume,
            "files": self._files,
        }[what](name)
        check(found, expected, name)

    def container_of(self, name: str) -> Container:
        """The container of that name."""
        every = [*self._spec.containers, *(self._spec.initContainers or [])]
        container: Container = _named(every, name)
        return container

    @property
    def handler(self) -> HandlerFacts:
        """What the handler of the pod's sandbox can do."""
        return self.facts.node.runtime.handlers.get(handler_of(self.pod, self.facts.objects) or "", HandlerFacts())

    @property
    def _spec(self) -> PodSpec:
        assert self.pod.spec is not None
        return self.pod.spec

    def _config(self, container: Container) -> cri.ContainerConfig:
        images = {name: reference for name, (reference, _) in self._images(container.name).items()}
        facts = dataclasses.replace(self.facts, volume_images=images, handler=self.handler)
        paths = volume_paths(self.pod, facts.root_dir)
        return container_config(self.pod, container, 0, facts, paths, image_user=self.image_user)

    def _container(self, name: str) -> Any:
        try:
            return plain(self._config(self.container_of(name)))
        except SpecError as error:
            return {error.reason: str(error)}

    def _asks(self, name: str) -> Any:
        container = self.container_of(name)
        found = {f"{kind}Probe": plan for kind, plan in plan_probes(container).items()}
        hooks = {
            "postStart": post_start_of(container),
            "preStop": parse_pre_stop(self._config(container).annotations),
        }
        return plain({**found, **{hook: ask for hook, ask in hooks.items() if ask is not None}})

    def _images(self, name: str) -> dict[str, list[str]]:
        asked: list[list[str]] = []
        if not any(volume.image for volume in self._spec.volumes or []):
            return {}

        async def pull(image: str, policy: str) -> PulledImage:
            asked.append([image, policy])
            return PulledImage(image, image)

        work = pull_volume_images(self.pod, self.container_of(name), pull)
        return dict(zip(asyncio.run(work), asked, strict=True))

    def _volume(self, name: str) -> Any:
        memory_bytes = allocatable(self.facts.node, "memory")
        planned = plan_volumes(self.pod, self.facts.root_dir, node_memory_bytes=memory_bytes)
        found = plain(_named(planned, name))
        return {key: value for key, value in found.items() if key != "source"}

    def _files(self, name: str) -> Any:
        volume: Volume = _named(self._spec.volumes or [], name)
        try:
            files = volume_payload(self.pod, volume, self.facts) or {}
        except PayloadError as error:
            return {"error": str(error)}
        return {path: f"{one.mode:04o} {one.data.decode()}" for path, one in files.items()} | {"count": len(files)}


def _named(things: Any, name: str) -> Any:
    found = [one for one in things if one.name == name]
    assert found, f"there is no {name}"
    return found[0]


def check(found: Any, expected: Any, where: str) -> None:
    """Whether `expected` is part of `found`: of mappings some keys, of lists of named things some things; None is for
    what must not be there. Raises AssertionError.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, part in expected.items():
            if part is None:
                assert found.get(key) is None, f"{where}.{key} is {found.get(key)}"
                continue
            assert key in found, f"{where} has no {key}: {found}"
            check(found[key], part, f"{where}.{key}")
    elif isinstance(expected, list) and expected and isinstance(expected[0], dict):
        key = next((one for one in NAMED if one in expected[0]), None)
        if key is None:
            assert found == expected, f"{where} is {found}"
            return
        by_name = {one[key]: one for one in found or ()}
        for part in expected:
            assert part[key] in by_name, f"{where} has no {part[key]}: {sorted(by_name)}"
            check(by_name[part[key]], part, f"{where}[{part[key]}]")
    else:
        assert found == expected, f"{where} is {found}"
