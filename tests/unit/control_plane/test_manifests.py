"""The four static pods: what our own agent accepts, and what becomes of files that are there already."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.manifests import identify, validate
from control_plane.errors import ControlPlaneError
from control_plane.manifest_files import render_manifest, write_manifests
from control_plane.manifests import MORE_TRUSTED, manifests
from control_plane.settings import COMPONENTS, PORTS, ClusterSettings, Places, SettingsError, check_settings
from lab.kubernetes_build import KUBERNETES_VERSION
from tests.unit.control_plane.conftest import SETTINGS, Plane

PLACES = Places(
    kubernetes_dir=Path("/etc/kubernetes"),
    manifest_dir=Path("/etc/longshore/manifests"),
    etcd_dir=Path("/var/lib/etcd"),
)


def _pods(settings: ClusterSettings = SETTINGS) -> dict[str, Any]:
    return manifests(settings, PLACES, MORE_TRUSTED)


def _flags(pod: Any) -> dict[str, str]:
    program, *flags = pod["spec"]["containers"][0]["command"]
    assert program == pod["metadata"]["name"]
    return dict(flag.removeprefix("--").split("=", 1) for flag in flags)


def test_the_agent_accepts_them() -> None:
    for name, pod in _pods().items():
        data = render_manifest(pod)
        found = identify(data, name)
        assert str(found) == f"pod/{name}"
        validate(data, found, PLACES.manifest(name), name, "node-1")


def test_what_every_pod_has() -> None:
    pods = _pods()
    assert tuple(pods) == COMPONENTS
    for name, pod in pods.items():
        spec = pod["spec"]
        (container,) = spec["containers"]
        assert (spec["hostNetwork"], spec["priorityClassName"]) == (True, "system-node-critical")
        assert PORTS[container["ports"][0]["containerPort"]] == name
        assert {"livenessProbe", "startupProbe"} <= container.keys()
        assert "cpu" in container["resources"]["requests"]
        places = {one["name"]: one["hostPath"]["path"] for one in spec["volumes"]}
        assert {one["name"]: one["mountPath"] for one in container["volumeMounts"]} == places


def test_who_may_do_what() -> None:
    pods = _pods()
    api = _flags(pods["kube-apiserver"])
    assert api["authorization-mode"] == "Node,RBAC"
    assert api["enable-admission-plugins"] == "NodeRestriction"
    assert not {name for name in api if name.startswith(("audit", "encryption", "anonymous"))}
    watches_s = int(api["shutdown-watch-termination-grace-period"].removesuffix("s"))
    assert 0 < watches_s < pods["kube-apiserver"]["spec"].get("terminationGracePeriodSeconds", 30)
    for name in COMPONENTS[1:]:
        assert _flags(pods[name])["profiling"] == "false"
    assert _flags(pods["etcd"])["client-cert-auth"] == "true"


def test_images_as_asked() -> None:
    assert SETTINGS.kubernetes_version == f"v{KUBERNETES_VERSION}"
    asked = dataclasses.replace(SETTINGS, image_repository="mirror.example:5000/k8s", kubernetes_version="v1.35.0")
    images = [pod["spec"]["containers"][0]["image"] for pod in _pods(asked).values()]
    assert images[0].startswith("mirror.example:5000/k8s/etcd:3.6.")
    assert images[1:] == [f"mirror.example:5000/k8s/{name}:v1.35.0" for name in COMPONENTS[1:]]


def test_an_ipv6_control_plane() -> None:
    settings = dataclasses.replace(
        SETTINGS, advertise_address="2001:db8::1", service_cidr="fd00:1::/112", pod_cidr="fd00:2::/56"
    )
    check_settings(settings)
    etcd = _flags(_pods(settings)["etcd"])
    assert etcd["listen-client-urls"] == "https://[::1]:2379,https://[2001:db8::1]:2379"
    assert settings.first_service_ip == "fd00:1::1"


def test_a_control_plane_of_both_families() -> None:
    services, pods = "10.96.0.0/12,fd00:1::/112", "10.244.0.0/16,fd00:2::/56"
    settings = dataclasses.replace(SETTINGS, service_cidr=services, pod_cidr=pods)
    check_settings(settings)
    made = _pods(settings)
    assert _flags(made["kube-apiserver"])["service-cluster-ip-range"] == services
    controllers = _flags(made["kube-controller-manager"])
    assert (controllers["service-cluster-ip-range"], controllers["cluster-cidr"]) == (services, pods)
    assert settings.first_service_ip == "10.96.0.1"


def test_one_more_control_plane_joins_etcd_and_asks_its_own() -> None:
    members = "node-0=https://192.0.2.9:2380,node-1=https://192.0.2.10:2380"
    settings = dataclasses.replace(SETTINGS, etcd_cluster=members, control_plane_endpoint="api.example.com:443")
    etcd, api = _flags(_pods(settings)["etcd"]), _flags(_pods(settings)["kube-apiserver"])
    assert (etcd["initial-cluster"], etcd["initial-cluster-state"]) == (members, "existing")
    assert api["etcd-servers"] == "https://127.0.0.1:2379"
    assert api["advertise-address"] == "192.0.2.10"
    for shared, state in ((False, None), (True, "existing")):
        first = _flags(_pods(dataclasses.replace(SETTINGS, etcd_shared=shared))["etcd"])
        found = (first["initial-cluster"], first.get("initial-cluster-state"))
        assert found == ("node-1=https://192.0.2.10:2380", state)


@pytest.mark.parametrize("endpoint", ["api.example.com:6443", "192.0.2.1:443", "[2001:db8::1]:6443"])
def test_an_endpoint(endpoint: str) -> None:
    check_settings(dataclasses.replace(SETTINGS, control_plane_endpoint=endpoint))


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"node_name": "Node_1"}, "--node-name"),
        ({"advertise_address": "127.0.0.1"}, "--advertise-address"),
        ({"advertise_address": "node-1"}, "--advertise-address"),
        ({"service_cidr": "10.96.0.1/12"}, "--service-cidr"),
        ({"service_cidr": "10.0.0.0/8"}, "--service-cidr"),
        ({"service_cidr": "fd00:1::/112"}, "--service-cidr"),
        ({"pod_cidr": "10.100.0.0/16"}, "--pod-cidr"),
        ({"service_cidr": "10.96.0.0/12,10.112.0.0/12"}, "--service-cidr"),
        ({"service_cidr": "10.96.0.0/12,fd00:1::/112"}, "--pod-cidr"),
        ({"service_cidr": "10.96.0.0/12,fd00:1::/64"}, "--service-cidr"),
        ({"pod_cidr": "10.244.0.0/16,fd00:2::/32"}, "--pod-cidr"),
        ({"dns_domain": ".local"}, "--dns-domain"),
        ({"kubernetes_version": "1.36.3"}, "--kubernetes-version"),
        ({"kubernetes_version": "v1.20.0"}, "--kubernetes-version"),
        ({"image_repository": "https://registry.k8s.io"}, "--image-repository"),
        ({"etcd_image": "etcd latest"}, "--etcd-image"),
        ({"cert_sans": ("a b",)}, "--cert-san"),
        ({"control_plane_endpoint": "api.example.com"}, "--control-plane-endpoint"),
        ({"control_plane_endpoint": "api.example.com:0"}, "--control-plane-endpoint"),
        ({"control_plane_endpoint": "https://api.example.com:6443"}, "--control-plane-endpoint"),
        ({"control_plane_endpoint": "2001:db8::1:6443"}, "--control-plane-endpoint"),
    ],
)
def test_a_setting_that_cannot_be_is_named(change: dict[str, Any], option: str) -> None:
    with pytest.raises(SettingsError, match=f"^{option}: "):
        check_settings(dataclasses.replace(SETTINGS, **change))


def test_files_are_ours_or_left_alone(plane: Plane) -> None:
    written = write_manifests(SETTINGS, plane.places, plane.files)
    assert len(written.files) == len(COMPONENTS)
    plane.again()
    assert write_manifests(SETTINGS, plane.places, plane.files).files == ()

    newer = dataclasses.replace(SETTINGS, kubernetes_version="v1.36.4")
    scheduler = plane.places.manifest("kube-scheduler")
    scheduler.write_bytes(scheduler.read_bytes().replace(b"100m", b"50m"))
    written = write_manifests(newer, plane.places, plane.files)
    assert {path.stem for path in written.files} == {"kube-apiserver", "kube-controller-manager"}
    assert written.edited == (scheduler,)
    assert yaml.safe_load(scheduler.read_bytes())["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "50m"

    scheduler.unlink()
    plane.again()
    assert write_manifests(newer, plane.places, plane.files).files == (scheduler,)


def test_manifests_and_data_are_for_their_owner_only(plane: Plane) -> None:
    write_manifests(SETTINGS, plane.places, plane.files)
    assert plane.places.etcd_dir.stat().st_mode & 0o777 == 0o700
    scheduler = plane.places.manifest("kube-scheduler")
    scheduler.chmod(0o644)
    assert write_manifests(SETTINGS, plane.places, plane.files).files == (scheduler,)
    assert {path.stat().st_mode & 0o777 for path in plane.places.manifest_dir.iterdir()} == {0o600}


def test_a_change_that_was_cut_off_before_the_file_leaves_it_ours(plane: Plane) -> None:
    write_manifests(SETTINGS, plane.places, plane.files)
    etcd = plane.places.manifest("etcd")
    plane.files.record.note({etcd: b"# what was to be written"})
    plane.again()
    newer = dataclasses.replace(SETTINGS, etcd_image="registry.k8s.io/etcd:3.6.9-0")
    written = write_manifests(newer, plane.places, plane.files)
    assert (written.files, written.edited) == ((etcd,), ())
    assert plane.files.record.path.stat().st_mode & 0o777 == 0o600


def test_somebody_elses_manifest_is_not_touched(plane: Plane) -> None:
    path = plane.places.manifest("etcd")
    path.parent.mkdir(parents=True)
    path.write_text("kind: Pod\n")
    with pytest.raises(
        ControlPlaneError, match=r"cannot write .*etcd\.yaml: it is there, and longshore has not made it"
    ):
        write_manifests(SETTINGS, plane.places, plane.files)
    assert [one.name for one in path.parent.iterdir()] == ["etcd.yaml"]
