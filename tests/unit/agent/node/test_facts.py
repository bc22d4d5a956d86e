"""Facts read from the machine the tests run on."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.node import facts
from agent.node.facts import (
    cgroup_version,
    has_swap_controller,
    node_name,
    read_hugepages,
    read_machine_identity,
    read_node_facts,
)


@dataclass(frozen=True)
class Settings:
    node_name: str = "Node-1"
    node_ip: str | None = None
    max_pods: int = 42
    resolv_conf: str = ""
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    kube_reserved: Mapping[str, str] = field(default_factory=dict)
    system_reserved: Mapping[str, str] = field(default_factory=lambda: {"cpu": "100m", "memory": "1Mi"})
    node_labels: Mapping[str, str] = field(default_factory=dict)


def text_of(path: str) -> str:
    return Path(path).read_text()


async def test_this_machine(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 192.0.2.53\n")
    found = await read_node_facts(Settings(resolv_conf=str(resolver)))
    assert found.node_name == found.labels["kubernetes.io/hostname"] == "node-1"
    assert found.cpu_milli == (os.cpu_count() or 1) * 1000
    total_kib = int(text_of("/proc/meminfo").split()[1])
    assert found.memory_bytes == total_kib * 1024
    assert found.allocatable_cpu_milli == found.cpu_milli - 100
    assert found.allocatable_memory_bytes == found.memory_bytes - sum(found.hugepages_bytes.values()) - (1 << 20)
    assert found.max_pods == 42
    assert found.resolv_conf == "nameserver 192.0.2.53\n"
    assert found.cgroup_version in (1, 2)
    assert read_machine_identity().boot_id == text_of("/proc/sys/kernel/random/boot_id").strip()


async def test_no_resolver_file_and_one_that_is_missing() -> None:
    assert (await read_node_facts(Settings())).resolv_conf is None
    with pytest.raises(OSError, match="cannot read resolver file /nowhere"):
        await read_node_facts(Settings(resolv_conf="/nowhere"))


def test_a_resolver_that_does_not_answer_holds_up_neither_start_nor_end(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        answered.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(facts, "_RESOLVE_S", 0.05)
    began_s = time.monotonic()
    assert asyncio.run(read_node_facts(Settings())).node_name == "node-1"
    assert time.monotonic() - began_s < 30
    answered.set()


def test_the_hosts_own_name_is_taken_in_lower_case() -> None:
    assert node_name() == os.uname().nodename.strip().lower()
    assert node_name(" Web-1 ") == "web-1"


def test_cgroup_versions_and_huge_pages(tmp_path: Path) -> None:
    assert cgroup_version(str(tmp_path)) == 1
    assert not has_swap_controller(str(tmp_path))
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.memsw.limit_in_bytes").touch()
    assert has_swap_controller(str(tmp_path))
    (tmp_path / "cgroup.controllers").touch()
    assert cgroup_version(str(tmp_path)) == 2
    for size in ("2048", "1048576", "64"):
        (tmp_path / f"hugepages-{size}kB").mkdir()
    (tmp_path / "hugepages-2048kB/nr_hugepages").write_text("3\n")
    assert list(read_hugepages(str(tmp_path)).items()) == [("64KB", 0), ("2MB", 6 << 20), ("1GB", 0)]
