"""From one release to the next: what is allowed, and what the command says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import cli
from control_plane.upgrade import plan, step_problem
from kube_client.config import ApiConfig


@pytest.mark.parametrize(
    ("current", "wanted", "said"),
    [
        ("v1.35.2", "v1.36.3", ""),
        ("v1.36.3", "v1.36.4", ""),
        ("v1.36.3", "v1.36.3", ""),
        ("v1.34.9", "v1.36.3", "a minor release is left out: go to v1.35 first"),
        ("v1.36.3", "v1.36.2", "a control plane does not go back"),
        ("v1.36.3", "v1.35.9", "a control plane does not go back"),
        ("v1.36.3", "latest", "latest is not a release"),
    ],
)
def test_one_minor_release_at_a_time_and_never_back(current: str, wanted: str, said: str) -> None:
    problem = step_problem(current, wanted)
    assert said in problem
    assert bool(problem) == bool(said)


def test_nodes_may_be_three_minor_releases_older_and_should_not_be_newer() -> None:
    nodes = {"old": "v1.33.9", "too-old": "v1.32.1+k3s", "same": "v1.36.9", "new": "v1.37.0", "odd": "unknown"}
    found = plan("v1.35.2", "v1.36.3", "v1.35.2", nodes)
    assert [problem.split()[1] for problem in found.problems] == ["too-old"]
    assert [note.split()[1] for note in found.notes] == ["new", "odd"]
    assert "the last change is not through" in plan("v1.36.3", "v1.36.3", "v1.36.2", {}).notes[0]


def run(base: Path, *arguments: str) -> tuple[int, str]:
    places = [f"--kubernetes-dir={base / 'kubernetes'}", f"--etcd-dir={base / 'etcd'}", "--node-name=plane-1"]
    more = [*places, "--advertise-address=192.0.2.1"]
    argv = [f"--manifest-dir={base / 'manifests'}", "control-plane", *more, *arguments]
    done = CliRunner().invoke(cli, argv)
    return done.exit_code, done.output


def test_the_plan_names_what_changes_and_the_commands(tmp_path: Path) -> None:
    code, said = run(tmp_path, "upgrade", "plan")
    assert code == 3
    assert "no control plane was made here" in said
    for phase in ("certs", "kubeconfigs", "manifests"):
        assert run(tmp_path, "--kubernetes-version=v1.35.2", phase)[0] == 0
    with (tmp_path / "manifests" / "kube-scheduler.yaml").open("a") as edited:
        edited.write("# by hand\n")
    code, said = run(tmp_path, "upgrade", "plan", "--to=v1.36.3", "--output=json")
    assert code == 0, said
    value = json.loads(said[said.index("{") :])
    assert value["problems"] == []
    states = {one["component"]: (one["then"], one["manifest"]) for one in value["components"]}
    assert states["etcd"] == ("the same", "stays")
    assert states["kube-apiserver"] == ("registry.k8s.io/kube-apiserver:v1.36.3", "changes")
    assert states["kube-scheduler"][1] == "stays: it was edited"
    code, said = run(tmp_path, "upgrade", "plan", "--to=v1.36.3")
    assert "longshore up --control-plane --kubernetes-version v1.36.3" in said
    code, said = run(tmp_path, "upgrade", "plan", "--to=v1.34.1")
    assert code == 1
    assert "in the way: v1.34.1 is older than v1.35.2" in said


def test_the_release_that_runs_is_that_of_this_machine_and_the_nodes_are_those_of_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the endpoint another control plane may answer, which has been upgraded already."""
    endpoint = "https://api.example:6443"

    def answer(api: ApiConfig, path: str) -> bytes | None:
        if path == "/version":
            return json.dumps({"gitVersion": "v1.36.3" if api.servers == (endpoint,) else "v1.35.2"}).encode()
        node = {"metadata": {"name": "old"}, "status": {"nodeInfo": {"kubeletVersion": "v1.32.9"}}}
        return json.dumps({"items": [node]}).encode() if api.servers == (endpoint,) else None

    monkeypatch.setattr("cli.api.look", answer)
    for phase in ("certs", "kubeconfigs", "manifests"):
        options = ("--kubernetes-version=v1.35.2", "--control-plane-endpoint=api.example:6443")
        assert run(tmp_path, *options, phase)[0] == 0
    code, said = run(tmp_path, "upgrade", "plan", "--to=v1.36.3")
    assert code == 1
    assert "node old is of v1.32.9, more than three minor releases older than v1.36.3" in said
    assert "is not through yet" not in said


@pytest.mark.parametrize("phase", ["certs", "kubeconfigs", "manifests"])
def test_no_phase_remembers_a_release_that_may_not_follow(tmp_path: Path, phase: str) -> None:
    """Or the next `up` would begin from there."""
    assert run(tmp_path, "--kubernetes-version=v1.35.2", "certs")[0] == 0
    before = (tmp_path / "kubernetes" / "longshore.json").read_bytes()
    code, said = run(tmp_path, "--kubernetes-version=v1.34.9", phase)
    assert (code, "cannot take v1.34.9: v1.34.9 is older than v1.35.2" in said) == (1, True), said
    assert (tmp_path / "kubernetes" / "longshore.json").read_bytes() == before


def test_what_up_would_refuse_is_in_the_way(tmp_path: Path) -> None:
    for phase in ("certs", "kubeconfigs", "manifests"):
        run(tmp_path, phase)
    (tmp_path / "kubernetes" / "admin.conf").write_text("garbage: [")
    (tmp_path / "kubernetes" / "proxy.conf").unlink()
    (tmp_path / "kubernetes" / "pki" / "apiserver.crt").write_text("cut off")
    code, said = run(tmp_path, "upgrade", "plan")
    wrong = [line.partition(":")[2].split()[1] for line in said.splitlines() if line.startswith("in the way: ")]
    assert (code, wrong) == (1, ["apiserver:", "admin.conf:"]), said


def test_the_plan_names_its_own_option(tmp_path: Path) -> None:
    run(tmp_path, "certs")
    code, said = run(tmp_path, "upgrade", "plan", "--to=latest")
    assert (code, "--to: 'latest' is not a release" in said) == (1, True), said


def test_up_refuses_what_the_plan_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.up.refuse_obstacles", lambda *_: None)  # those of the machine that runs the tests
    assert run(tmp_path, "--kubernetes-version=v1.34.2", "certs")[0] == 0
    places = [f"--kubernetes-dir={tmp_path / 'kubernetes'}", "--kubernetes-version=v1.36.3"]
    done = CliRunner().invoke(cli, [f"--manifest-dir={tmp_path / 'manifests'}", "up", "--control-plane", *places])
    assert done.exit_code == 1
    assert "go to v1.35 first" in done.output
    assert (
        json.loads((tmp_path / "kubernetes" / "longshore.json").read_text())["settings"]["kubernetes_version"]
        == "v1.34.2"
    )
