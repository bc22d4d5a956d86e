"""Install, upgrade, remove and purge in a root file system without systemd, by the real dpkg.

That the daemons are started and restarted is for a machine that boots systemd to show.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.package.conftest import Chroot

pytestmark = pytest.mark.timeout(900)  # the first unpacks a root file system and installs the package in it
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: 10.96.0.10
  ports: [{port: 80, targetPort: 8080}]
---
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: 8080}]
endpoints: [{addresses: [10.1.2.3]}]
"""
# What others write whenever a package comes or goes.
NOT_OURS = re.compile(
    r"var/(lib/dpkg|log/(dpkg|apt|alternatives)|cache/(man|ldconfig|apt|debconf))|etc/ld.so.cache|tmp/|root/|run/mount/"
    r"|var/lib/systemd/deb-systemd-helper-(enabled|masked)/$|etc/systemd/system/[a-z.-]*wants/$"
)


def test_installed_and_run(installed: Chroot) -> None:
    before = installed.files()
    said = installed.run("longshore --version; longshore-agent --version; longshore-proxy --version").stdout
    assert [line.split()[0].rstrip(",") for line in said.splitlines()] == [
        "longshore", "longshore-agent", "longshore-proxy"
    ]  # fmt: skip
    installed.run("PYTHONOPTIMIZE=2 longshore-agent --version; PYTHONOPTIMIZE=2 longshore-proxy --version")
    installed.run("longshore --help; longshore pods --help")
    assert installed.files() == before, "a start wrote something"
    assert installed.run("man --where longshore-agent.yaml").stdout.strip().endswith("longshore-agent.yaml.5.gz")
    enabled = installed.root / "etc/systemd/system"
    assert {path.name for path in enabled.glob("*.wants/longshore*.service")} >= {
        "longshore-agent.service", "longshore-proxy.service"
    }  # fmt: skip
    # Without systemd nobody may have started anything.
    assert not (installed.root / "run/longshore/proxy.lock").exists()
    assert not (installed.root / "var/lib/longshore/agent.lock").exists()
    (installed.root / "etc/longshore/agent.yaml").write_text("maxPodz: 3\n")
    done = installed.run("longshore-agent --config /etc/longshore/agent.yaml", check=False)
    assert (done.returncode, "/etc/longshore/agent.yaml" in done.stdout) == (78, True), done.stdout


def test_upgrade_keeps_what_the_administrator_changed(installed: Chroot, later: Path) -> None:
    etc = installed.root / "etc/longshore"
    edited = (etc / "agent.yaml").read_text() + "maxPods: 5\n"
    (etc / "agent.yaml").write_text(edited)
    (etc / "manifests/web.yaml").write_text("a pod")
    installed.run("systemctl disable longshore-proxy.service")
    installed.run(f"dpkg --install --force-confdef --force-confold {installed.put(later)}")
    assert (etc / "agent.yaml").read_text() == edited
    assert "maxPods: 77" in (etc / "agent.yaml.dpkg-dist").read_text()
    assert (etc / "manifests/web.yaml").read_text() == "a pod"
    wanted = {path.name for path in (installed.root / "etc/systemd/system").glob("*.wants/*")}
    assert "longshore-agent.service" in wanted
    assert "longshore-proxy.service" not in wanted, "who disabled it wants it disabled"


def test_an_upgrade_that_was_cut_off_is_repaired_by_the_next(installed: Chroot, later: Path) -> None:
    cut = f"""
        dpkg --install {installed.put(later)} >/tmp/log 2>&1 & dpkg=$!
        cd /opt/longshore/lib/python3.*/site-packages
        until [ -e grpc/__init__.py.dpkg-new ]; do sleep 0.01; done
        kill -9 $dpkg
        wait $dpkg || true
        dpkg --audit
    """
    assert "longshore" in installed.run(cut).stdout, "the upgrade was over before it could be cut off"
    installed.run(f"dpkg --install {installed.put(later)}; longshore --version")
    assert installed.run("dpkg --audit").stdout == ""
    assert list((installed.root / "opt/longshore").rglob("*.dpkg-*")) == []


def test_remove_takes_the_rules_and_leaves_the_data(installed: Chroot) -> None:
    (installed.root / "etc/longshore/services/web.yaml").write_text(SERVICE.removesuffix("---\n"))
    (installed.root / "etc/longshore/services/web-1.yaml").write_text(SLICE)
    state = installed.root / "var/lib/longshore/records/aa-1.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    # A network of its own for the whole script. The directory says that systemd has booted; systemctl sees a chroot.
    said = installed.run("""
        iptables -t nat -N SOMEBODYS
        ip link set lo up
        longshore-proxy --agent-socket= --healthz-bind-address= --metrics-bind-address= >/tmp/proxy.log 2>&1 & proxy=$!
        for _ in $(seq 1200); do iptables-save | grep -q 10.96.0.10 && break; sleep 0.1; done
        kill $proxy; wait $proxy || true
        echo before; iptables-save
        mkdir -p /run/systemd/system
        dpkg --remove longshore >/tmp/log 2>&1
        echo after; iptables-save
        rm -r /run/systemd
    """).stdout
    before, after = said.split("before\n")[1].split("after\n")
    assert "10.96.0.10" in before, (installed.root / "tmp/proxy.log").read_text()
    assert ":SOMEBODYS" in after
    assert [line for line in after.splitlines() if re.search("KUBE|LONGSHORE|10.96.0.10", line)] == []
    assert state.exists()
    assert (installed.root / "etc/longshore/agent.yaml").exists()
    assert (installed.root / "etc/longshore/services/web.yaml").exists()
    assert not (installed.root / "opt/longshore").exists()


def test_purge_leaves_nothing(chroot: Chroot, deb: Path, later: Path) -> None:
    chroot.run("true")
    before = chroot.files()
    chroot.run(f"dpkg --install {chroot.put(deb)}; dpkg --install {chroot.put(later)}")
    assert "maxPods: 77" in (chroot.root / "etc/longshore/agent.yaml").read_text(), "a new default reached nobody"
    # What a node leaves in a life; "yours" stands for a neighbour's.
    chroot.run("""
        PYTHONOPTIMIZE=1 longshore --version
        cd /var/lib/longshore
        mkdir -p pods/aa-1/volumes records
        echo {} >records/bb-2.json
        echo x >agent.lock
        mount -t tmpfs tmpfs pods/aa-1/volumes
        mkdir -p /run/longshore /var/log/pods/default_web_aa-1/web /var/log/pods/default_db_bb-2 /var/log/containers
        mkdir -p /var/log/pods/default_yours_cc-3
        echo log >/var/log/pods/default_web_aa-1/web/0.log
        echo log >/var/log/pods/default_yours_cc-3/0.log
        ln -s /var/log/pods/default_web_aa-1/web/0.log /var/log/containers/web.log
        ln -s /var/log/pods/default_yours_cc-3/0.log /var/log/containers/yours.log
        echo pod >/etc/longshore/manifests/web.yaml
        mkdir -p /etc/systemd/logind.conf.d
        echo '[Login]' >/etc/systemd/logind.conf.d/99-longshore.conf
        dpkg --purge longshore
    """)
    left = {name for name in chroot.files().keys() - before.keys() if not NOT_OURS.match(name)}
    assert left == {
        "var/log/pods/", "var/log/pods/default_yours_cc-3/", "var/log/pods/default_yours_cc-3/0.log",
        "var/log/containers/", "var/log/containers/yours.log",
    }  # fmt: skip
    assert {name for name in before.keys() - chroot.files().keys() if not NOT_OURS.match(name)} == set()


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("dpkg --purge longshore", "purge"),
        ("apt-get --yes purge longshore", "purge"),
        ("apt-get --yes --purge remove longshore", "purge"),
        ("apt-get --yes remove longshore", "remove"),
        ("dpkg --remove longshore", "remove"),
    ],
)
def test_purge_can_be_told_from_remove_while_the_programs_are_there(
    installed: Chroot, command: str, wanted: str
) -> None:
    """prerm ends the pods when a purge begins; this is what it asks dpkg and apt."""
    prerm = installed.root / "var/lib/dpkg/info/longshore.prerm"
    functions, found, _ = prerm.read_text().partition('if [ "$1" = remove ]')
    assert found
    prerm.write_text(f"{functions}\nif purging; then echo purge; else echo remove; fi >/tmp/want\n")
    installed.run(command)
    assert (installed.root / "tmp/want").read_text().strip() == wanted


def test_remove_says_when_it_cannot_know_of_pods(installed: Chroot) -> None:
    """An agent that is down has no pods to name, but they run all the same."""
    said = installed.run("mkdir -p /run/systemd/system; dpkg --purge longshore; rm -r /run/systemd").stdout
    assert "the agent does not answer" in said


def test_purge_spares_what_somebody_has_mounted(installed: Chroot) -> None:
    """A bind mount that cannot be taken away holds data of somebody; a state directory that is a mount is emptied."""
    said = installed.run("""
        mkdir -p /srv/data /srv/manifests
        echo mine >/srv/data/file
        echo mine >/srv/manifests/web.yaml
        mount -t tmpfs tmpfs /var/lib/longshore
        mkdir -p '/var/lib/longshore/pods/a/b c'
        mount --bind /srv/data '/var/lib/longshore/pods/a/b c'
        mount --bind /srv/manifests /etc/longshore/manifests
        dpkg --purge longshore
        echo "left: $(ls -A /var/lib/longshore)."
    """).stdout
    assert "/etc/longshore stays" in said
    assert (installed.root / "srv/data/file").read_text() == "mine\n"
    assert (installed.root / "srv/manifests/web.yaml").read_text() == "mine\n"
    assert "left: ." in said
    assert installed.run("dpkg --audit; dpkg-query --list longshore 2>&1 || true").stdout.startswith("dpkg-query: no")
