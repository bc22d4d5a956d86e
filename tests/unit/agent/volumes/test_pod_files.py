"""Hosts files and termination logs."""

from __future__ import annotations

import os
import stat
import tracemalloc
from pathlib import Path

import pytest
from lightkube.models import core_v1, meta_v1

from agent.container_spec.paths import etc_hosts_path
from agent.volumes.errors import VolumeError
from agent.volumes.hosts_file import render_hosts_file
from agent.volumes.pod_files import create_termination_log, read_termination_log, write_hosts_file


def pod(**spec: object) -> core_v1.Pod:
    return core_v1.Pod(
        metadata=meta_v1.ObjectMeta(name="a", uid="u1"),
        spec=core_v1.PodSpec(containers=[], **spec),
    )


def test_the_hosts_file_is_the_kubelets() -> None:
    alias = core_v1.HostAlias(ip="10.1.1.1", hostnames=["db", "cache"])
    assert render_hosts_file(["10.0.0.7", "fd00::7"], "web", "sub.ns.svc.cluster.local", [alias]).splitlines() == [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
        "10.0.0.7\tweb.sub.ns.svc.cluster.local\tweb",
        "fd00::7\tweb.sub.ns.svc.cluster.local\tweb",
        "",
        "# Entries added by HostAliases.",
        "10.1.1.1\tdb\tcache",
    ]


def test_it_is_written_in_place_so_that_running_containers_see_it(tmp_path: Path) -> None:
    write_hosts_file(pod(), str(tmp_path), ["10.0.0.7"], "web")
    path = tmp_path / "pods/u1/etc-hosts"
    inode = path.stat().st_ino
    assert path.read_text().endswith("10.0.0.7\tweb\n")
    write_hosts_file(pod(), str(tmp_path), ["10.0.0.8"], "w")
    assert path.read_text().endswith("10.0.0.8\tw\n")
    assert path.stat().st_ino == inode


def test_a_host_network_pod_has_the_nodes_hosts(tmp_path: Path) -> None:
    write_hosts_file(pod(hostNetwork=True), str(tmp_path), ["192.0.2.1"], "node")
    header = "# Kubernetes-managed hosts file (host network).\n"
    assert (tmp_path / "pods/u1/etc-hosts").read_text() == header + Path("/etc/hosts").read_text()


def test_termination_logs_are_open_for_all_and_read_back(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = create_termination_log(pod(), str(tmp_path), "web", 18)
    finally:
        os.umask(before)
    assert path == str(tmp_path / "pods/u1/containers/web/00000012")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666
    Path(path).write_text("bye")
    create_termination_log(pod(), str(tmp_path), "web", 18)
    assert read_termination_log(path) == "bye"
    Path(path).write_text("x" * 5000 + "end")
    assert read_termination_log(path) == ("x" * 5000 + "end")[-4096:]


def test_no_log_no_message_and_no_trap(tmp_path: Path) -> None:
    assert read_termination_log(str(tmp_path / "absent")) == ""
    os.mkfifo(tmp_path / "fifo")
    assert read_termination_log(str(tmp_path / "fifo")) == ""
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert read_termination_log(str(tmp_path / "link")) == ""


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "pods").write_text("")
    with pytest.raises(VolumeError, match=f"cannot make termination log {tmp_path}/pods/u1"):
        create_termination_log(pod(), str(tmp_path), "web", 0)


def test_cve_2020_8557_a_pod_that_fills_its_hosts_file_or_last_words_costs_the_agent_no_memory(tmp_path: Path) -> None:
    """Ten gigabytes, without a disk for them: what the agent reads of a file that a pod may write is bounded."""
    web = pod()
    write_hosts_file(web, str(tmp_path), ["10.0.0.2"], "web")
    written = create_termination_log(web, str(tmp_path), "main", 0)
    hosts = Path(etc_hosts_path(str(tmp_path), "u1"))
    text = hosts.read_text()
    for path in (hosts, Path(written)):
        os.truncate(path, 10 << 30)
    tracemalloc.start()
    try:
        write_hosts_file(web, str(tmp_path), ["10.0.0.2"], "web")
        assert len(read_termination_log(written)) == 4096
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 1 << 20
    assert hosts.read_text() == text
