"""A control plane's files below a temporary directory, made by the modules themselves."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control_plane.files import Files
from control_plane.kubeconfigs import Kubeconfigs
from control_plane.pki import Pki
from control_plane.record import Record
from control_plane.settings import ClusterSettings, Places

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
SETTINGS = ClusterSettings(node_name="node-1", advertise_address="192.0.2.10")


@dataclass
class Plane:
    base: Path
    now: datetime.datetime = NOW
    settings: ClusterSettings = SETTINGS
    files: Files = field(init=False)

    def __post_init__(self) -> None:
        self.again()

    @property
    def places(self) -> Places:
        return Places(
            kubernetes_dir=self.base / "kubernetes", manifest_dir=self.base / "manifests", etcd_dir=self.base / "etcd"
        )

    def again(self) -> None:
        """As a new process sees it."""
        self.files = Files(Record(self.places.kubernetes_dir))

    @property
    def pki(self) -> Pki:
        return Pki(self.places.pki, self.files, self.now)

    @property
    def kubeconfigs(self) -> Kubeconfigs:
        return Kubeconfigs(self.places, self.files, self.pki)

    def contents(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.base.rglob("*") if path.is_file()}


@pytest.fixture
def plane(tmp_path: Path) -> Plane:
    return Plane(tmp_path)


@pytest.fixture
def made(plane: Plane) -> Plane:
    plane.pki.ensure(plane.settings)
    plane.kubeconfigs.ensure(plane.settings)
    plane.again()
    return plane
