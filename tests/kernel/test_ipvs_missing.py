"""Mode ipvs on a kernel without IPVS: one clear message at start, and nothing left behind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.netlab import Node
from tests.kernel.proxy_process import ProxyProcess, one_variant


def kernel_has_ipvs() -> bool:
    if Path("/proc/net/ip_vs").exists():
        return True
    modprobe = shutil.which("modprobe")
    return modprobe is not None and subprocess.run([modprobe, "-n", "-q", "ip_vs"], check=False).returncode == 0


@one_variant
@pytest.mark.skipif(kernel_has_ipvs(), reason="this kernel has IPVS")
def test_a_missing_module_is_named_at_start(node: Node, daemon: ProxyProcess) -> None:
    before = node.save()
    status, said = daemon.run("--proxy-mode=ipvs")
    assert status == 1
    assert "cannot run in mode ipvs: the kernel has no IPVS" in said
    assert "modprobe ip_vs" in said
    assert said.count("modprobe") == 1
    assert node.save() == before
    assert daemon.run("--cleanup")[0] == 0
