"""A restore of etcd that fails while etcdutl is at work."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cli.cluster import Cluster, open_cluster
from cli.etcd import Waiter, _clear
from cli.failure import UNREACHABLE, Failure
from cli.target import Target
from control_plane.etcd_restore import POD, Restore, made_data


@dataclass(frozen=True, kw_only=True)
class Etcdutl(Target):
    """An agent whose pod of the restore writes on whenever somebody looks, and for a while after its manifest went."""

    ends_after: list[int] = field(default_factory=lambda: [3])
    away: list[bool] = field(default_factory=list)

    def agent(self, path: str) -> dict[str, Any]:
        assert path == "/v1/pods"
        if self.away:
            raise Failure("cannot reach the agent", UNREACHABLE)
        assert self.manifest_dir is not None
        if not (self.manifest_dir / f"{POD}.yaml").exists():
            if not self.ends_after[0]:
                return {"pods": []}
            self.ends_after[0] -= 1
        made = self.root_dir / "etcd" / "restored"
        made.mkdir(exist_ok=True)
        (made / "half").touch()
        pod = {"metadata": {"name": f"{POD}-plane-1", "namespace": "kube-system"}, "status": {"phase": "Running"}}
        return {"pods": [{"pod": pod}]}


def machine(base: Path) -> tuple[Cluster, Etcdutl]:
    target = Etcdutl(root_dir=base, agent_socket=base / "a", proxy_socket=base / "p", manifest_dir=base / "manifests")
    options = {"node_name": "plane-1", "advertise_address": "192.0.2.1", "etcd_dir": base / "etcd"}
    cluster = open_cluster(target, {**options, "kubernetes_dir": base / "kubernetes"})
    for directory in (cluster.places.kubernetes_dir, cluster.places.manifest_dir, cluster.places.etcd_data):
        directory.mkdir(parents=True)
    cluster.places.manifest("etcd").write_text("# etcd")
    return cluster, target


@pytest.mark.parametrize("away", [False, True])
def test_where_it_takes_too_long_nothing_is_left_of_what_is_written_until_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, away: bool
) -> None:
    monkeypatch.setattr("cli.etcd._EVERY_S", 0.0)
    cluster, target = machine(tmp_path)
    work = Restore(cluster.places, cluster.files)
    work.put_manifests_aside(["etcd"])
    work.begin(cluster.settings, tmp_path / "snapshot")
    wait = Waiter(target, "plane-1", time.monotonic() - 1)
    with pytest.raises(Failure, match="cannot wait for etcdutl to make the data any longer"):
        wait("etcdutl to make the data", lambda _pods: False)
    assert made_data(cluster.places).exists()
    target.away.extend([True] * away)
    _clear(work, wait)
    assert [path.name for path in cluster.places.etcd_dir.iterdir()] == ["member"]
    assert [path.name for path in cluster.places.manifest_dir.iterdir()] == ["etcd.yaml"]
    assert away or target.ends_after == [0]
