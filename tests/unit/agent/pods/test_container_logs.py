"""Links to the logs of containers, and what goes with a container and with a pod."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.pods.container_logs import (
    link_path,
    links_dir,
    make_link,
    name_in_logs,
    remove_container_log,
    remove_pod_logs,
)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    where = tmp_path / "pods" / "default_web-n_u1" / "main"
    where.mkdir(parents=True)
    return where


def test_the_links_are_where_log_shippers_look() -> None:
    assert links_dir("/var/log/pods") == "/var/log/containers"
    assert links_dir("/var/log/pods/") == "/var/log/containers"
    link = link_path("/var/log/pods", "kube-system", "etcd-n", "etcd", "c1")
    assert link == "/var/log/containers/etcd-n_kube-system_etcd-c1.log"


def test_a_name_too_long_for_the_file_system_is_cut_before_its_ending(logs: Path) -> None:
    link = Path(link_path(str(logs.parents[1]), "n" * 63, "p" * 200, "c" * 63, "f" * 64))
    assert len(link.name) == 255
    assert link.suffix == ".log"
    make_link(str(link), str(logs / "0.log"))
    assert link.is_symlink()


def test_a_container_takes_its_own_log_and_what_was_rotated_of_it(logs: Path) -> None:
    for name in ("0.log", "1.log", "1.log.20260101-000000.gz", "10.log"):
        (logs / name).write_text("x")
    link = link_path(str(logs.parents[1]), "default", "web-n", "main", "c1")
    make_link(link, str(logs / "1.log"))
    make_link(link, str(logs / "1.log"))  # again, after a crash
    assert Path(link).read_text() == "x"
    remove_container_log(link, str(logs / "1.log"))
    remove_container_log(link, str(logs / "1.log"))
    assert sorted(path.name for path in logs.iterdir()) == ["0.log", "10.log"]
    assert not Path(link).is_symlink()


def test_a_pod_takes_its_links_but_not_those_of_its_namesake(logs: Path) -> None:
    top = str(logs.parents[1])
    mine = link_path(top, "default", "web-n", "main", "c1")
    namesakes = link_path(top, "default", "web-n", "main", "c2")
    other = Path(links_dir(top)) / "web-n_default_note"
    make_link(mine, str(logs / "0.log"))
    make_link(namesakes, f"{top}/default_web-n_u2/main/0.log")
    other.write_text("not a link")
    remove_pod_logs(top, "default", "web-n", str(logs.parent))
    remove_pod_logs(top, "default", "web-n", str(logs.parent))
    assert sorted(path.name for path in other.parent.iterdir()) == [Path(namesakes).name, other.name]
    assert not logs.parent.exists()


def test_a_log_directory_tells_whose_it_is(logs: Path) -> None:
    assert name_in_logs(str(logs.parents[1]), "u1") == ("default", "web-n")
    assert name_in_logs(str(logs.parents[1]), "u2") == ("", "")
    assert name_in_logs("/no/such/directory", "u1") == ("", "")
