"""The hash of a container holds over the death of the agent."""

from __future__ import annotations

import subprocess
import sys

from lightkube.models import core_v1

from agent.container_spec.hashing import container_hash


def test_container_hash_is_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "from lightkube.models import core_v1; from agent.container_spec.hashing import container_hash;"
        "print(container_hash(core_v1.Container(name='a', image='b')))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert answer.stdout.strip() == container_hash(core_v1.Container(name="a", image="b"))
