from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.preflight import Finding, Places, host_findings
from cli.preflight_runtime import runtime_findings
from cri_client.fake import FakeRuntime, serve_fake
from tests.unit.cli.conftest import Node

NETWORK = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}]}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host where everything that is a file is well."""
    files = {
        "proc/sys/net/ipv4/ip_forward": "1\n",
        "proc/sys/net/bridge/bridge-nf-call-iptables": "1\n",
        "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
        "cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
        "cni/10-pods.conflist": json.dumps(NETWORK),
        "bin/bridge": "",
        "bin/host-local": "",
        "manifests/.keep": "",
        "systemd/.keep": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Places(
        proc=tmp_path / "proc",
        cgroup=tmp_path / "cgroup",
        cni_conf=tmp_path / "cni",
        cni_bins=(tmp_path / "bin",),
        systemd=tmp_path / "systemd",
        manifest_dirs=(tmp_path / "manifests",),
    )


def named(places: Places) -> dict[str, Finding]:
    return {one.name: one for one in host_findings(places)}


def test_a_host_that_is_fit(places: Places) -> None:
    found = named(places)
    names = ("/proc/sys", "cgroups", "swap", "ip forwarding", "bridge-nf-call", "conntrack")
    for name in (*names, "CNI", "manifests", "systemd"):
        assert found[name].ok, found[name]
        assert not found[name].fix


@pytest.mark.parametrize(
    ("name", "file", "text", "detail", "fix"),
    [
        ("ip forwarding", "proc/sys/net/ipv4/ip_forward", "0\n", "net.ipv4.ip_forward = 0", "sysctl"),
        (
            "bridge-nf-call",
            "proc/sys/net/bridge/bridge-nf-call-iptables",
            None,
            "does not exist",
            "modprobe br_netfilter",
        ),
        ("conntrack", "proc/sys/net/netfilter/nf_conntrack_max", None, "not loaded", "modprobe nf_conntrack"),
        ("cgroups", "cgroup/cgroup.controllers", "cpu pids\n", "v2, without memory", "cgroup_enable=memory"),
        ("CNI", "cni/10-pods.conflist", None, "holds no configuration", "10-longshore.conflist"),
        ("CNI", "cni/10-pods.conflist", "{", "cannot read", "repair"),
        ("CNI", "cni/10-pods.conflist", '{"plugins": [{}]}', "a plugin has no type", "repair"),
        ("CNI", "bin/host-local", None, "needs host-local", "containernetworking-plugins"),
        ("manifests", "manifests/.keep", None, "is missing", "mkdir -p"),
    ],
)
def test_what_is_amiss_comes_with_its_fix(
    places: Places, name: str, file: str, text: str | None, detail: str, fix: str
) -> None:
    path = places.proc.parent / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    elif file.endswith(".keep"):
        path.parent.rmdir()
    finding = named(places)[name]
    assert finding.ok is False
    assert detail in finding.detail
    assert fix in finding.fix


def test_cgroup_v1(places: Places) -> None:
    (places.cgroup / "cgroup.controllers").unlink()
    for name in ("cpu", "memory"):
        (places.cgroup / name).mkdir()
    rows = [f"{name}\t1\t1\t{enabled}" for name, enabled in (("cpu", 1), ("memory", 1), ("pids", 0))]
    (places.proc / "cgroups").write_text("#subsys_name\thierarchy\tnum_cgroups\tenabled\n" + "\n".join(rows))
    assert named(places)["cgroups"].detail == "v1, without pids"
    (places.cgroup / "pids").mkdir()
    (places.proc / "cgroups").write_text("".join(f"{name}\t1\t1\t1\n" for name in ("cpu", "memory", "pids")))
    found = named(places)["cgroups"]
    assert (found.ok, found.detail) == (None, "v1, with cpu, memory, pids")
    assert "failCgroupV1: false" in found.fix


def test_swap_is_a_note(places: Places) -> None:
    (places.proc / "swaps").write_text("Filename Type Size Used Priority\n/dev/sda2 partition 9 0 -2\n")
    found = named(places)["swap"]
    assert (found.ok, found.detail) == (None, "on: /dev/sda2")
    assert "swapoff -a" in found.fix
    assert "failSwapOn: false" in found.fix


def test_no_systemd_is_only_a_note(places: Places) -> None:
    (places.systemd / ".keep").unlink()
    places.systemd.rmdir()
    assert named(places)["systemd"].ok is None


def test_no_iptables(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(places.cgroup))
    found = named(places)
    assert (found["iptables"].ok, found["iptables"].fix) == (False, "apt-get install iptables")
    assert found["nat table"].ok is False


@pytest.mark.parametrize(
    ("text", "variant"),
    [("iptables v1.8.9 (nf_tables)", "nft"), ("iptables v1.8.9 (legacy)", "legacy"), ("iptables v1.6.1", "legacy")],
)
def test_the_variant_of_iptables(places: Places, monkeypatch: pytest.MonkeyPatch, text: str, variant: str) -> None:
    for name in ("iptables", "iptables-save", "iptables-restore"):
        program = places.cgroup / name
        program.write_text(
            f"#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{text}'; else echo 'no table' >&2; exit 3; fi\n"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{places.cgroup}:/usr/bin:/bin")
    found = named(places)
    assert found["iptables"].detail.endswith(f"variant {variant}")
    assert (found["nat table"].ok, found["nat table"].detail) == (False, "no table")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[str]:
    """The endpoint of a fake runtime on a real socket, served by another thread."""
    loop, stop, started = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    path = tmp_path / "cri.sock"

    async def serve() -> None:
        async with serve_fake(FakeRuntime(), path):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(20)
    yield f"unix://{path}"
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


def test_a_runtime_that_answers(runtime: str) -> None:
    found = list(runtime_findings(runtime))
    assert [one.name for one in found][:2] == ["runtime", "CRI"]
    assert all(one.ok for one in found), found
    assert "CRI v1" in found[1].detail


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("unix:///nowhere/c.sock", "no socket at /nowhere/c.sock"),
        ("tcp://127.0.0.1:1", "only unix sockets"),
        ("unix:///dev/null", "not a socket"),
    ],
)
def test_a_runtime_that_does_not(endpoint: str, words: str) -> None:
    (finding,) = runtime_findings(endpoint)
    assert finding.ok is False
    assert words in finding.detail
    assert "--runtime-endpoint" in finding.fix


def test_the_command_fails_when_something_does(node: Node) -> None:
    result = node.run(
        "check", "--runtime-endpoint", "unix:///nowhere/c.sock", "--cni-conf-dir", str(node.base / "none")
    )
    assert result.exit_code == 1
    lines = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    assert "FAIL" in lines["CNI"]
    assert "->" in lines["CNI"]
    assert " ok " in lines["manifests"]
    found = json.loads(node.run("check", "-o", "json", "--runtime-endpoint", "unix:///nowhere/c.sock").stdout)
    assert {"name": "root", "ok": os.geteuid() == 0}.items() <= found[0].items()
