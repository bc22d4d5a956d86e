import tomllib
from pathlib import Path

from lab.containerd_config import CniNetwork, ContainerdFacts, TomlValue, cni_conflist, containerd_toml, toml_text


def facts(version: tuple[int, int], **changes: object) -> ContainerdFacts:
    values: dict[str, object] = {
        "base": Path("/base"),
        "socket": Path("/base/c.sock"),
        "cni_conf_dir": Path("/base/cni"),
        "cni_bin_dir": Path("/usr/lib/cni"),
        "pause_image": "longshore.test/pause:1",
        "snapshotter": "native",
        "registries": Path("/base/registries"),
        "restrict_oom_score_adj": True,
        "version": version,
    }
    return ContainerdFacts(**{**values, **changes})  # type: ignore[arg-type]  # a test's shorthand


def test_containerd_1_reads_version_2() -> None:
    config = tomllib.loads(containerd_toml(facts((1, 6))))
    assert config["version"] == 2
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "longshore.test/pause:1"
    assert cri["restrict_oom_score_adj"] is True
    assert cri["containerd"]["snapshotter"] == "native"
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": False}
    assert cri["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": "/base/cni"}
    assert cri["netns_mounts_under_state_dir"] is True
    assert cri["registry"] == {"config_path": "/base/registries"}


def test_containerd_2_reads_version_3() -> None:
    config = tomllib.loads(containerd_toml(facts((2, 2), restrict_oom_score_adj=False)))
    assert config["version"] == 3
    plugins = config["plugins"]
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": "longshore.test/pause:1"}
    assert plugins["io.containerd.cri.v1.images"]["registry"] == {"config_path": "/base/registries"}
    runtime = plugins["io.containerd.cri.v1.runtime"]
    assert runtime["restrict_oom_score_adj"] is False
    assert runtime["cni"]["bin_dirs"] == ["/usr/lib/cni"]
    assert runtime["containerd"]["default_runtime_name"] == "runc"
    assert plugins["io.containerd.nri.v1.nri"]["disable"] is True


def test_containerd_2_0_knows_one_cni_directory() -> None:
    config = tomllib.loads(containerd_toml(facts((2, 0))))
    assert config["plugins"]["io.containerd.cri.v1.runtime"]["cni"]["bin_dir"] == "/usr/lib/cni"


def test_every_path_is_below_base() -> None:
    for version in ((1, 6), (1, 7), (2, 0), (2, 2)):
        config = tomllib.loads(containerd_toml(facts(version)))
        places = [config["root"], config["state"], config["grpc"]["address"], config["ttrpc"]["address"]]
        places.append(config["plugins"]["io.containerd.internal.v1.opt"]["path"])
        assert all(place.startswith("/base/") for place in places)


def test_toml_keeps_values_and_awkward_keys() -> None:
    inner: dict[str, TomlValue] = {"x.y": {"s": 'say "hi"\\', "l": ["1", "2"]}, "empty": {"deep": {"b": False}}}
    document: dict[str, TomlValue] = {"a": 1, "t": inner, "b": True}
    assert tomllib.loads(toml_text(document)) == document


def test_network_is_point_to_point_and_leases_in_its_own_directory() -> None:
    conflist = cni_conflist(CniNetwork(subnet="10.1.0.0/24", subnet6="fd00::/64", host_ports=False), Path("/data"))
    assert [plugin["type"] for plugin in conflist["plugins"]] == ["ptp"]  # type: ignore[attr-defined]  # JSON
    ipam = conflist["plugins"][0]["ipam"]  # type: ignore[index]  # JSON
    assert ipam["dataDir"] == "/data"
    assert ipam["ranges"] == [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]
    assert ipam["routes"] == [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    with_ports = cni_conflist(CniNetwork(), Path("/data"))
    assert [plugin["type"] for plugin in with_ports["plugins"]] == ["ptp", "portmap"]  # type: ignore[attr-defined]  # JSON
