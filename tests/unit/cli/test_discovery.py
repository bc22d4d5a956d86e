"""Which servers a machine that joins keeps; the proof itself is tests/unit/control_plane/test_bootstrap.py."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path

import pytest

from cli.discovery import discover
from control_plane.bootstrap import authority_pin
from control_plane.errors import ControlPlaneError
from control_plane.kubeconfigs import anonymous_kubeconfig
from control_plane.x509 import parse_certificate
from kube_client.config import ApiConfig
from lab.pki import Authority

TOKEN = "abcdef.0123456789abcdef"
SAID = "https://api.example.com:6443"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://192.0.2.1:6443", SAID),
        ("https://192.0.2.1:6443,https://192.0.2.2:6443", "https://192.0.2.1:6443,https://192.0.2.2:6443"),
        ("https://127.0.0.1:7443", "https://127.0.0.1:7443"),
        ("https://[::1]:7443", "https://[::1]:7443"),
        ("https://localhost.example.com", SAID),
    ],
)
def test_several_servers_and_a_load_balancer_of_this_machine_are_kept(
    given: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = Authority(tmp_path).certificate.read_bytes()
    now = datetime.datetime.now(datetime.UTC)
    asked: list[tuple[tuple[str, ...], bool]] = []

    def get(api: ApiConfig, _path: str) -> bytes:
        asked.append((api.servers, api.insecure))
        return json.dumps({"data": {"kubeconfig": anonymous_kubeconfig(SAID, ca).decode()}}).encode()

    monkeypatch.setattr("cli.discovery.api.get", get)
    monkeypatch.setattr("cli.discovery.check_cluster_info", lambda data, _token: data["kubeconfig"])
    pin = authority_pin(parse_certificate(ca))
    found = discover(given, TOKEN, (pin,), now, time.monotonic() + 60)
    assert (found.server, found.ca) == (kept, ca)
    assert asked == [(tuple(given.split(",")), True), (tuple(kept.split(",")), False)], "asked again by its authority"
    assert found.access(TOKEN).token == TOKEN
    with pytest.raises(ControlPlaneError, match=f"the authority of {SAID} is {pin}, not sha256:0"):
        discover(given, TOKEN, ("sha256:0",), now, time.monotonic() + 60)
