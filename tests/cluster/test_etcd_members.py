"""Three real members of etcd, as our manifests start it: one goes for good, is taken out, and comes again without data.

On addresses of loopback, which other machines could not reach, so the clusters are made without `open_cluster`.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.cluster import Cluster, ClusterOptions
from cli.etcd_members import announce, promote, remove_member, working_others
from cli.target import Target
from control_plane.etcd_members import answers, first_answer
from control_plane.files import Files
from control_plane.kubeconfigs import Kubeconfigs
from control_plane.manifests import manifests
from control_plane.pki import Pki
from control_plane.record import Record
from control_plane.settings import ETCD, ETCD_CLIENT_PORT, ClusterSettings, Places
from lab.control_plane_build import control_plane_directory
from lab.machine import LabProcess, LocalMachine, wait_until
from tests.conftest import need_control_plane

NAMES = ("plane-1", "plane-2", "plane-3")
ADDRESSES = {name: f"127.42.0.{number}" for number, name in enumerate(NAMES, start=1)}
ALL = ",".join(f"{name}=https://{address}:2380" for name, address in ADDRESSES.items())
_LONG_S = 240.0


@dataclass(frozen=True)
class Options(ClusterOptions):
    """Of a command on a machine whose cluster is known."""

    cluster: Cluster

    def open(self) -> Cluster:
        return self.cluster


@dataclass
class Machine:
    """One of three."""

    options: Options
    process: LabProcess | None = None

    @property
    def cluster(self) -> Cluster:
        return self.options.cluster

    @property
    def client(self) -> str:
        return f"https://{self.cluster.settings.advertise_address}:{ETCD_CLIENT_PORT}"

    def start(self, cluster: Cluster, **flags: str) -> None:
        """The static pod's command, without what three cannot share on one machine."""
        (container,) = manifests(cluster.settings, cluster.places, ())[ETCD]["spec"]["containers"]
        given = dict(word.removeprefix("--").split("=", 1) for word in container["command"][1:])
        given |= {"listen-client-urls": self.client, "unsafe-no-fsync": "true", **flags}
        del given["listen-metrics-urls"]
        words = [f"--{name}={value}" for name, value in given.items()]
        argv = ["setpriv", "--pdeathsig", "KILL", "--", str(control_plane_directory() / "etcd"), *words]
        cluster.places.etcd_dir.mkdir(mode=0o700, exist_ok=True)
        self.process = LocalMachine().start(argv, log=cluster.places.etcd_dir.with_suffix(".log"))

    def works(self) -> bool:
        return answers(self.client, self.cluster.places.pki)

    def remove(self, name: str) -> Result:
        return CliRunner().invoke(remove_member, [name], obj=self.options, standalone_mode=False)


def new_machine(base: Path, name: str) -> Machine:
    """With the authority that is in `base`."""
    places = Places(kubernetes_dir=base / name, manifest_dir=base / "manifests", etcd_dir=base / f"{name}-etcd")
    files = Files(Record(places.kubernetes_dir))
    pki = Pki(places.pki, files, datetime.datetime.now(datetime.UTC))
    settings = ClusterSettings(node_name=name, advertise_address=ADDRESSES[name], etcd_cluster=ALL)
    if name != NAMES[0]:
        shutil.copytree(base / NAMES[0] / "pki" / "etcd", places.pki / "etcd", ignore=lambda _, found: [
            one for one in found if not one.startswith("ca.")
        ])  # fmt: skip
    pki.ensure(settings)
    cluster = Cluster(settings, places, files, pki, Kubeconfigs(places, files, pki))
    target = Target(root_dir=base, agent_socket=base / "a", proxy_socket=base / "p", manifest_dir=base / "manifests")
    return Machine(Options(target, {}, cluster))


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Machine]]:
    need_control_plane()
    made = [new_machine(tmp_path, name) for name in NAMES]
    try:
        for one in made:
            one.start(one.cluster, **{"initial-cluster-state": "new"})
        wait_until(lambda: all(one.works() for one in made), "three members of etcd", timeout_s=_LONG_S)
        yield made
    finally:
        for one in made:
            if one.process is not None:
                one.process.kill()


def test_a_member_that_is_gone_for_good_is_taken_out_and_comes_again_without_data(machines: list[Machine]) -> None:
    first, _, last = machines
    assert "cannot remove plane-2: it works" in str(first.remove("plane-2").exception)
    assert set(working_others(first.cluster)) == {"plane-2", "plane-3"}

    assert last.process is not None
    last.process.kill()
    wait_until(lambda: working_others(first.cluster) == ["plane-2"], "plane-3 to be away", timeout_s=_LONG_S)
    assert first.remove("plane-3").output == "removed plane-3; its Node is deleted with kubectl\n"

    shutil.rmtree(last.cluster.places.etcd_dir)
    deadline_s = time.monotonic() + _LONG_S
    cluster = announce(last.cluster, deadline_s)  # etcd refuses at first, as its members have just changed
    last.start(cluster)
    promote(cluster, deadline_s)
    members = first_answer([first.client], first.cluster.places.pki, lambda etcd: etcd.members())
    assert {(one.name, one.learner) for one in members} == {(name, False) for name in NAMES}
    wait_until(last.works, "plane-3 to work", timeout_s=_LONG_S)

    for one in machines[1:]:
        assert one.process is not None
        one.process.kill()
    said = str(last.remove("plane-2").exception)
    assert "cannot take plane-2 out of etcd: etcd would lose its quorum: of its 2 other members 2 must work" in said


def test_a_first_one_that_others_have_joined_never_begins_again_without_its_data(machines: list[Machine]) -> None:
    first, second, _ = machines
    shared = first.cluster.with_settings(etcd_cluster="", etcd_shared=True)
    assert first.process is not None
    first.process.kill()
    first.start(shared)
    wait_until(first.works, "plane-1 to work with the data that it has", timeout_s=_LONG_S)

    first.process.kill()
    shutil.rmtree(shared.places.etcd_dir)
    first.start(shared)
    process = first.process
    wait_until(lambda: process.returncode is not None, "an etcd without data to end", timeout_s=_LONG_S)
    assert "cannot fetch cluster info from peer urls" in shared.places.etcd_dir.with_suffix(".log").read_text()
    assert second.works()
