"""The proxy behind the walls of its unit: capabilities, no new privileges and read-only mounts as systemd would make
them from longshore-proxy.service. The filters of system calls and of address families need systemd itself.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.host import LabHost
from lab.machine import wait_until
from lab.manifests import put_manifest, web_service
from lab.node import daemon

UNIT = Path(__file__).parents[2] / "systemd" / "longshore-proxy.service"
VIP = "198.18.7.21"
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [198.18.9.9]}]
"""

# ProtectSystem=strict: every mount read-only except /dev, /proc, /sys and ReadWritePaths=. ProtectHome=, PrivateTmp=
# would hide what this test is made of.
_READ_ONLY = """
set -e
while read -r _ _ _ _ place _; do
    case $place in /dev | /dev/* | /proc | /proc/* | /sys | /sys/* | /run | /run/*) ;;
    *) mount -o remount,bind,ro "$place" 2>/dev/null || test ! -e "$place" || echo "cannot shut $place" ;;
    esac
done < /proc/self/mountinfo
mkdir -p /run/longshore
exec "$@"
"""


def service() -> dict[str, str]:
    unit = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    unit.optionxform = str  # type: ignore[assignment,method-assign] # the documented way to keep capitals
    unit.read_string(UNIT.read_text())
    return dict(unit["Service"])


@pytest.fixture(scope="module")
def host() -> Iterator[LabHost]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with LabHost("unit") as host:
        yield host


def walls() -> list[str]:
    known = service()
    assert (known["ProtectSystem"], known["ReadWritePaths"], known["NoNewPrivileges"]) == ("strict", "/run", "yes")
    capabilities = [name.removeprefix("CAP_").lower() for name in known["CapabilityBoundingSet"].split()]
    limits = f"--bounding-set=-all,{','.join(f'+{name}' for name in capabilities)}"
    return ["unshare", "--mount", "sh", "-c", _READ_ONLY, "sh", "setpriv", limits, "--no-new-privs", "--"]


def test_services_work_behind_the_walls(host: LabHost) -> None:
    services = host.base / "services"
    services.mkdir()
    manifest = web_service("web", VIP)
    del manifest["spec"]["selector"]
    put_manifest(services, manifest)
    put_manifest(services, SLICE, "web-1.yaml")
    flags = [f"--manifest-dir={services}", "--agent-socket=", "--api-socket=/run/longshore/proxy.sock"]
    proxy = host.start([*walls(), daemon("longshore-proxy"), *flags], log=host.base / "proxy.log")
    try:
        wait_until(lambda: f"-A KUBE-SERVICES -d {VIP}" in host.run(["iptables-save", "-t", "nat"]).stdout, "the rules")
        wait_until(lambda: "ready: " in proxy.log_text(), "the proxy to be ready")
        assert host.run(["cat", "/proc/sys/net/ipv4/conf/all/route_localnet"]).stdout == "1\n"
        host.run(["iptables", "-w", "-t", "nat", "-F", "KUBE-SERVICES"])
        wait_until(
            lambda: f"-A KUBE-SERVICES -d {VIP}" in host.run(["iptables-save", "-t", "nat"]).stdout,
            "the rules to come back",
        )
        # What this kernel itself keeps from everybody is said with or without walls.
        said = [line for line in proxy.log_text().splitlines() if "cannot" in line]
        assert all("nf_conntrack" in line or "oom_score_adj" in line for line in said), said
    except BaseException:
        print(proxy.log_text())
        raise
    finally:
        proxy.stop()
        host.run([daemon("longshore-proxy"), *flags, "--cleanup"])


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_both_variants_work_behind_the_walls(host: LabHost, variant: str) -> None:
    program = f"iptables-{variant}"
    for arguments in (["-N", "BEHIND"], ["-A", "BEHIND", "-m", "statistic", "--mode", "random", "--probability", "0.5"],
                      ["-F", "BEHIND"], ["-X", "BEHIND"]):  # fmt: skip
        host.run([*walls(), program, "-w", "-t", "nat", *arguments])
    assert host.run(["test", "-e", "/run/xtables.lock"], check=False).returncode == 0 or variant == "nft"


def test_the_walls_are_there(host: LabHost) -> None:
    refused = host.run([*walls(), "touch", "/etc/longshore-was-here"], check=False)
    assert "Read-only file system" in refused.stderr
    grep = ["grep", "CapBnd", "/proc/self/status"]
    before, inside = (int(host.run([*argv, *grep]).stdout.split()[1], 16) for argv in ([], walls()))
    assert inside & before == inside != before
    assert inside.bit_count() <= len(service()["CapabilityBoundingSet"].split())
