"""What a runtime can do, read from its answers."""

from __future__ import annotations

import pytest

from agent.container_spec.facts import HandlerFacts
from agent.node.runtime_facts import runtime_facts
from cri_client import types as cri


def test_features_of_handlers() -> None:
    handlers = (cri.RuntimeHandler("", cri.RuntimeHandlerFeatures(recursive_read_only_mounts=True)),)
    facts = runtime_facts(cri.StatusResponse(runtime_handlers=handlers), cri.VersionResponse())
    assert facts.handlers == {"": HandlerFacts(recursive_read_only=True)}


@pytest.mark.parametrize(("name", "version", "has"), [
    ("containerd", "1.6.20~ds1", False), ("containerd", "v2.0.5", False), ("containerd", "v2.1.0", True),
    ("containerd", "v2.10.1", True), ("cri-o", "1.30.2", False), ("cri-o", "1.31.0", True), ("other", "0.1", True),
])  # fmt: skip
def test_image_volumes_by_release(name: str, version: str, has: bool) -> None:
    answer = cri.VersionResponse(runtime_name=name, runtime_version=version)
    assert runtime_facts(cri.StatusResponse(), answer).image_volumes is has
