"""Bad manifests, one per item of the requirement, and the good manifest each of them is made from. Writes files.

Before: nothing. Next: `test_bad_input` feeds them to a real agent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.images import WEB_IMAGE

STEADY = "steady"


@dataclass(frozen=True)
class Case:
    """`item`: the words of the requirement. `make` writes the bad version over the good file of that name."""

    item: str
    make: Callable[[Path, str], None]
    says: str
    field: str = ""
    line: int | None = None
    file_name: str = ""

    @property
    def name(self) -> str:
        return "".join(char if char.isalnum() else "-" for char in self.item.lower()).strip("-")

    @property
    def file(self) -> str:
        return self.file_name or f"{self.name}.yaml"


def pod_text(name: str, labels: str = "{}") -> str:
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {labels}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {WEB_IMAGE}
    imagePullPolicy: Never
    command: [/bin/sleep, "100000"]
    ports: [{{containerPort: 8080}}]
    resources: {{limits: {{memory: 64Mi}}}}
"""


def replace(path: Path, content: bytes) -> None:
    """As an editor or a deployment tool does it: no moment without a whole file."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.rename(path)


def edited(old: str, new: str) -> Callable[[Path, str], None]:
    """The good text with one change; {name} stands for the pod's name."""

    def make(path: Path, name: str) -> None:
        text, before = pod_text(name), old.replace("{name}", name)
        assert before in text
        replace(path, text.replace(before, new.replace("{name}", name)).encode())

    return make


def holding(content: Callable[[str], bytes]) -> Callable[[Path, str], None]:
    return lambda path, name: replace(path, content(name))


def linked_to(target: str) -> Callable[[Path, str], None]:
    def make(path: Path, _name: str) -> None:
        fresh = path.with_name(f".{path.name}.new")
        fresh.symlink_to(target)
        fresh.rename(path)

    return make


def fifo(path: Path, _name: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    os.mkfifo(fresh)
    fresh.rename(path)


def two_containers(name: str, second: str) -> bytes:
    return f"{pod_text(name)}  - name: {second}\n    image: {WEB_IMAGE}\n".encode()


def before_containers(name: str) -> str:
    return pod_text(name).partition("  containers:")[0]


CONTAINER = "spec.containers[0]"
LABEL = "must be lower case letters, digits"
MANIFESTS = (
    Case("not YAML", edited("kind: Pod", "kind: [Pod"), "not valid YAML", line=3),
    Case("JSON that is cut off", holding(lambda _: b'{"kind":\n'), "not valid YAML", line=2, file_name="cut.json"),
    Case(
        "two documents",
        holding(lambda name: f"{pod_text(name)}---\n{pod_text(name)}".encode()),
        "holds 2 documents, one object per file is allowed",
        line=16,
    ),
    Case("empty file", holding(lambda _: b""), "file is empty"),
    Case("wrong kind", edited("kind: Pod", "kind: Deployment"), "'Deployment' cannot be used here", "kind", 2),
    Case(
        "unknown field",
        edited("    image: ", "    imag: "),
        "unknown field, did you mean 'image'?",
        f"{CONTAINER}.imag",
        10,
    ),
    Case(
        "wrong type",
        edited("containerPort: 8080", "containerPort: http"),
        'must be an integer, not the string "http"',
        f"{CONTAINER}.ports[0].containerPort",
        13,
    ),
    Case("missing name", edited("  name: {name}\n", ""), "required field is missing", "metadata.name", 3),
    Case(
        "missing containers",
        holding(lambda name: before_containers(name).encode()),
        "required field is missing",
        "spec.containers",
        6,
    ),
    Case(
        "no containers",
        holding(lambda name: f"{before_containers(name)}  containers: []\n".encode()),
        "at least one container is required",
        "spec.containers",
        8,
    ),
    Case(
        "duplicate container name",
        holding(lambda name: two_containers(name, "main")),
        "duplicate container name 'main'",
        "spec.containers[1].name",
        15,
    ),
    Case(
        "duplicate pod name in two files",
        edited("  name: {name}", f"  name: {STEADY}"),
        f"pod default/{STEADY}-node-a is already defined by ",
        "metadata.name",
        4,
    ),
    Case("name that is not a DNS label", edited("  name: {name}", "  name: Web_1"), LABEL, "metadata.name", 4),
    Case(
        "container name that is not a DNS label",
        edited("- name: main", "- name: main.one"),
        f"'main.one' {LABEL}",
        f"{CONTAINER}.name",
        9,
    ),
    Case(
        "port out of range",
        edited("containerPort: 8080", "containerPort: 65536"),
        "must be between 1 and 65535, not 65536",
        f"{CONTAINER}.ports[0].containerPort",
        13,
    ),
    Case(
        "bad quantity",
        edited("memory: 64Mi", "memory: 64Mib"),
        "'64Mib' is not a quantity",
        f"{CONTAINER}.resources.limits.memory",
        14,
    ),
    Case("10 MB file", holding(lambda name: pod_text(name).encode() + b"#" * 10_000_000), "larger than 1048576 bytes"),
    Case("binary file", holding(lambda _: bytes(range(256))), "not UTF-8 text (byte 128)", line=2),
    Case(
        "not UTF-8",
        holding(lambda name: pod_text(name, "{a: \xe9}").encode("latin-1")),
        "not UTF-8 text",
        line=5,
    ),
    Case("unreadable file", linked_to("/proc/self/mem"), "Input/output error"),
    Case("symbolic link to nothing", linked_to("nowhere.yaml"), "is a symbolic link to nothing"),
    Case("a pipe in place of a file", fifo, "is not a regular file"),
)
