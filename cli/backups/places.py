"""Which directories and files make a node: what `longshore backup` looks at. I/O: asks the daemons, reads two files.

Before: the command's options. Next: `snapshot` reads what is found here. What a running daemon says counts before its
configuration file, because flags count before files; the packaged default comes last.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from cli.failure import Failure
from cli.target import DEFAULT_MANIFEST_DIR, Target

DEFAULT_CONFIG_DIR = "/etc/longshore"
_UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True, kw_only=True)
class NodePlaces:
    """Where a node keeps itself; absolute paths, not looked up yet."""

    node: str
    root_dir: Path
    config: tuple[Path, ...]
    pod_manifests: Path
    service_manifests: Path

    def roots(self) -> tuple[Path, ...]:
        """Everything to look at."""
        return (self.root_dir, *self.config, self.pod_manifests, self.service_manifests)


def read_places(
    target: Target,
    *,
    config_dir: Path,
    agent_config: Path | None,
    proxy_config: Path | None,
    node_name: str | None,
    kubernetes_dir: Path,
    units: Path = _UNITS,
) -> NodePlaces:
    """Find the node's places; a node that stands alone has no `kubernetes_dir`.

    Raises Failure for a configuration file that cannot be read.
    """
    agent_file = agent_config or config_dir / "agent.yaml"
    proxy_file = proxy_config or config_dir / "proxy.yaml"
    status = target.agent_status()
    of_cluster = (kubernetes_dir,) if kubernetes_dir.exists() else ()
    return NodePlaces(
        node=node_name or str(status.get("nodeName") or socket.gethostname().strip().lower()),
        root_dir=_plain(target.root_dir),
        config=tuple(_plain(path) for path in (config_dir, agent_file, proxy_file, *of_cluster, *_drop_ins(units))),
        pod_manifests=_plain(pod_manifests(target, read_raw_config(agent_file))),
        service_manifests=_plain(target.services_dir()),
    )


def _plain(path: Path) -> Path:
    """The path as an archive may name it: absolute, one slash at the start; ".." is followed as the kernel does."""
    absolute = Path("/" + str(path.absolute()).lstrip("/"))
    return absolute.resolve() if ".." in absolute.parts else absolute


def pod_manifests(target: Target, agent_config: Mapping[str, object]) -> Path:
    """The directory of pod manifests: as the option says, the agent that runs, its configuration, the package."""
    running = target.agent_status().get("staticPodPath")
    return target.manifest_dir or Path(str(running or agent_config.get("staticPodPath") or DEFAULT_MANIFEST_DIR))


def read_raw_config(path: Path) -> dict[str, object]:
    """The fields of a configuration file as they stand, unknown ones too; nothing where there is no file.

    Raises Failure.
    """
    try:
        value = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise Failure(f"cannot read {path}: {error}; repair it first") from None
    return value if isinstance(value, dict) else {}


def _drop_ins(units: Path) -> Iterator[Path]:
    """What a person changed about our units, for example --hostname-override in a drop-in."""
    yield from sorted(units.glob("longshore*.d"))
