"""Configuration texts of a private containerd and its CNI network. Pure.

Before: `lab.containerd` gathers facts of the machine. Next: it writes these texts and starts the daemon.
Format version 2 is read by containerd 1.3-1.7, version 3 by 2.0 and later, where the CRI plugin is split into images
and runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# What the sandbox of every pod runs (`lab.images` builds it).
PAUSE_IMAGE = "longshore.test/pause:1"
# The runtime handler of the runc that has user namespaces.
USERS_HANDLER = "users"

TomlValue: TypeAlias = "str | bool | int | Sequence[str] | Mapping[str, TomlValue]"


@dataclass(frozen=True, kw_only=True)
class ContainerdFacts:
    """What the machine decides about the configuration."""

    base: Path
    socket: Path
    cni_conf_dir: Path
    cni_bin_dir: Path
    pause_image: str
    snapshotter: str
    registries: Path
    restrict_oom_score_adj: bool
    version: tuple[int, int]
    users_runc: Path | None = None


@dataclass(frozen=True)
class CniNetwork:
    """The pod network. `host_ports` adds portmap, which writes iptables rules of its own; `subnet6` may be empty."""

    name: str = "longshore-lab"
    subnet: str = "10.213.0.0/16"
    subnet6: str = ""
    host_ports: bool = True
    mtu: int = 1400


def containerd_toml(facts: ContainerdFacts) -> str:
    """The whole configuration file for the version in `facts`."""
    plugins = _plugins_v3(facts) if facts.version >= (2, 0) else _plugins_v2(facts)
    # containerd would create /opt/containerd.
    plugins["io.containerd.internal.v1.opt"] = {"path": str(facts.base / "opt")}
    document: dict[str, TomlValue] = {
        "version": 3 if facts.version >= (2, 0) else 2,
        "root": str(facts.base / "root"),
        "state": str(facts.base / "state"),
        "disabled_plugins": [
            "io.containerd.snapshotter.v1.aufs",
            "io.containerd.snapshotter.v1.blockfile",
            "io.containerd.snapshotter.v1.btrfs",
            "io.containerd.snapshotter.v1.devmapper",
            "io.containerd.snapshotter.v1.erofs",
            "io.containerd.snapshotter.v1.zfs",
            "io.containerd.tracing.processor.v1.otlp",
        ],
        "grpc": {"address": str(facts.socket)},
        "ttrpc": {"address": f"{facts.socket}.ttrpc"},
        "plugins": plugins,
    }
    return toml_text(document)


def cni_conflist(network: CniNetwork, data_dir: Path) -> dict[str, object]:
    """A point-to-point network: no bridge, so bridge-nf settings do not matter; addresses are leased in `data_dir`."""
    ranges = [[{"subnet": network.subnet}]]
    routes = [{"dst": "0.0.0.0/0"}]
    if network.subnet6:
        ranges.append([{"subnet": network.subnet6}])
        routes.append({"dst": "::/0"})
    ipam = {"type": "host-local", "dataDir": str(data_dir), "ranges": ranges, "routes": routes}
    plugins: list[dict[str, object]] = [{"type": "ptp", "ipMasq": False, "mtu": network.mtu, "ipam": ipam}]
    if network.host_ports:
        plugins.append({"type": "portmap", "capabilities": {"portMappings": True}, "snat": True})
    return {"cniVersion": "0.4.0", "name": network.name, "plugins": plugins}


def toml_text(document: Mapping[str, TomlValue], path: tuple[str, ...] = ()) -> str:
    """TOML of nested mappings, strings, integers, booleans and lists of strings: values first, then one table per
    mapping.
    """
    values = [f"{_quote(key)} = {_literal(value)}" for key, value in document.items() if not isinstance(value, Mapping)]
    header = [f"\n[{'.'.join(_quote(part) for part in path)}]"] if path and values else []
    lines = [*header, *values]
    for key, value in document.items():
        if isinstance(value, Mapping):
            lines.append(toml_text(value, (*path, key)).rstrip("\n"))
    return "\n".join(lines) + "\n"


def _plugins_v2(facts: ContainerdFacts) -> dict[str, TomlValue]:
    cri = {
        "sandbox_image": facts.pause_image,
        **_stream_server(),
        **_runtime_settings(facts),
        "containerd": {"snapshotter": facts.snapshotter, **_runtimes()},
        "cni": {"bin_dir": str(facts.cni_bin_dir), "conf_dir": str(facts.cni_conf_dir)},
        "registry": {"config_path": str(facts.registries)},
    }
    return {"io.containerd.grpc.v1.cri": cri}


def _plugins_v3(facts: ContainerdFacts) -> dict[str, TomlValue]:
    # bin_dirs came in 2.1 beside bin_dir, which is only deprecated.
    binaries: dict[str, TomlValue] = (
        {"bin_dirs": [str(facts.cni_bin_dir)]} if facts.version >= (2, 1) else {"bin_dir": str(facts.cni_bin_dir)}
    )
    return {
        "io.containerd.cri.v1.images": {
            "snapshotter": facts.snapshotter,
            "pinned_images": {"sandbox": facts.pause_image},
            "registry": {"config_path": str(facts.registries)},
        },
        "io.containerd.cri.v1.runtime": {
            **_runtime_settings(facts),
            "containerd": _runtimes(facts.users_runc),
            "cni": {**binaries, "conf_dir": str(facts.cni_conf_dir)},
        },
        "io.containerd.grpc.v1.cri": _stream_server(),
        # Its socket is one fixed path for the whole machine.
        "io.containerd.nri.v1.nri": {"disable": True},
    }


def _runtime_settings(facts: ContainerdFacts) -> dict[str, TomlValue]:
    return {
        "restrict_oom_score_adj": facts.restrict_oom_score_adj,
        # Sandboxes' namespaces are bound below our own state directory instead of /run/netns.
        "netns_mounts_under_state_dir": True,
        "enable_unprivileged_ports": True,
        "enable_unprivileged_icmp": True,
    }


def _runtimes(users_runc: Path | None = None) -> dict[str, TomlValue]:
    """The handler `runc`, and `users` where there is a runc with user namespaces."""
    runtimes: dict[str, TomlValue] = {"runc": _runc({})}
    if users_runc is not None:
        runtimes[USERS_HANDLER] = _runc({"BinaryName": str(users_runc)})
    return {"default_runtime_name": "runc", "runtimes": runtimes}


def _runc(options: Mapping[str, TomlValue]) -> dict[str, TomlValue]:
    return {"runtime_type": "io.containerd.runc.v2", "options": {"SystemdCgroup": False, **options}}


def _stream_server() -> dict[str, TomlValue]:
    return {"stream_server_address": "127.0.0.1", "stream_server_port": "0"}


def _quote(key: str) -> str:
    return key if key.replace("_", "").isalnum() else f'"{key}"'


def _literal(value: TomlValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "[" + ", ".join(_literal(item) for item in value) + "]"
