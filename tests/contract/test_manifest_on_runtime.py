"""A manifest's way to a process: what container_spec says is what the container finds, on every real runtime."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from agent.container_spec.container import container_config
from agent.container_spec.dns import hosts_file
from agent.container_spec.facts import ImageUser, NodeFacts, SpecFacts
from agent.container_spec.labels import parse_identity
from agent.container_spec.sandbox import sandbox_config
from agent.sources.manifest import parse_static_pod
from cri_client.logs import LogParser
from lab.images import WEB_IMAGE
from tests.contract.conftest import Target

MANIFEST = f"""apiVersion: v1
kind: Pod
metadata:
  name: facts
  labels: {{app: facts}}
spec:
  hostname: inside
  shareProcessNamespace: true
  dnsConfig: {{options: [{{name: edns0}}]}}
  securityContext:
    supplementalGroups: [4242]
    sysctls: [{{name: net.ipv4.ip_unprivileged_port_start, value: "81"}}]
  containers:
  - name: main
    image: {WEB_IMAGE}
    imagePullPolicy: Never
    command: [/bin/sh, -c]
    args:
    - |
      echo "env=$$(echo $GREETING)"
      echo "arg=$(GREETING)"
      echo "host=$(hostname)"
      echo "pwd=$(pwd)"
      echo "ids=$(id -u):$(id -g):$(id -G)"
      echo "ip=$POD_IP"
      echo "port-start=$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
      echo "oom=$(cat /proc/self/oom_score_adj)"
      grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status | tr -d '\\t' | sed 's/:/=/'
      echo "root=$(touch /x 2>/dev/null && echo writable || echo readonly)"
      echo "volume=$(cat /data/file)"
      echo "volume-write=$(touch /data/x 2>/dev/null && echo writable || echo readonly)"
      echo "resolv=$(tr '\\n' ';' </etc/resolv.conf)"
      echo "hosts=$(tail -1 /etc/hosts | tr '\\t' ' ')"
      echo bye >/dev/termination-log
    workingDir: /tmp
    env:
    - {{name: POD_IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: GREETING, value: "hello $(POD_IP)"}}
    resources:
      requests: {{memory: 64Mi}}
      limits: {{cpu: 500m, memory: 128Mi}}
    securityContext:
      runAsUser: 1000
      runAsGroup: 2000
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {{drop: [ALL]}}
      seccompProfile: {{type: RuntimeDefault}}
    volumeMounts:
    - {{name: data, mountPath: /data, readOnly: true}}
  volumes:
  - name: data
    emptyDir: {{}}
"""


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    Path(path).chmod(0o666)


def text_of(path: str) -> str:
    return Path(path).read_text()


def printed(log: str) -> dict[str, str]:
    lines = [line.content.decode().rstrip("\n") for line in LogParser().feed(Path(log).read_bytes())]
    assert all("=" in line for line in lines), lines
    return dict(line.split("=", 1) for line in lines)


async def test_what_the_manifest_says_is_what_the_container_finds(target: Target) -> None:
    if target.fake is not None:
        pytest.skip("the fake runs no programs: only a real runtime can show what a container finds")
    pod = parse_static_pod(MANIFEST.encode(), "/etc/longshore/manifests/facts.yaml", "node1")
    assert pod.spec is not None
    assert pod.metadata is not None
    facts = SpecFacts(
        node=NodeFacts(node_name="node1", memory_bytes=1 << 30, cpu_milli=2000, resolv_conf="nameserver 198.18.0.2\n"),
        root_dir=str(target.directory / "root"),
        pod_logs_dir=str(target.directory / "logs"),
        cgroup_parent=f"{target.world.cgroup_parent}/facts",
    )
    sandbox = sandbox_config(pod, 0, facts)
    sandbox_id = await target.runtime.run_pod_sandbox(sandbox)
    status = await target.sandbox_status(sandbox_id)
    assert status.network is not None
    facts = dataclasses.replace(facts, pod_ips=(status.network.ip,))
    container = pod.spec.containers[0]
    data = str(target.directory / "data")
    config = container_config(pod, container, 2, facts, {"data": data}, image_user=ImageUser(uid=0))
    write(f"{data}/file", "content")
    write(f"{sandbox.log_directory}/{config.log_path}", "")
    for mount in config.mounts[1:]:
        write(mount.host_path, hosts_file(pod, facts) if mount.container_path == "/etc/hosts" else "")
    container_id = await target.runtime.create_container(sandbox_id, config, sandbox)
    await target.runtime.start_container(container_id)
    ended = await target.ended(container_id)
    found = printed(f"{sandbox.log_directory}/{config.log_path}")
    address = status.network.ip
    assert ended.exit_code == 0, found
    assert found == {
        "env": f"hello {address}",
        "arg": f"hello {address}",
        "host": "inside",
        "pwd": "/tmp",
        "ids": "1000:2000:2000 4242",
        "ip": address,
        "port-start": "81",
        "oom": "938",
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "CapEff": "0000000000000000",
        "root": "readonly",
        "volume": "content",
        "volume-write": "readonly",
        "resolv": "nameserver 198.18.0.2;options edns0;",
        "hosts": f"{address} inside",
    }
    assert text_of(config.mounts[-1].host_path) == "bye\n"
    identity = parse_identity(ended.labels, ended.annotations)
    assert identity is not None
    assert (identity.pod_uid, identity.container, identity.restart_count) == (pod.metadata.uid, "main", 2)
