"""One proxy per network namespace, and no program of a dead one behind its back."""

from __future__ import annotations

import asyncio
import sys

from tests.kernel.netlab import Node, ask
from tests.kernel.proxy_process import VIP, ProxyProcess, eventually, one_variant, service_object, slice_object


@one_variant
async def test_a_second_proxy_is_refused_whatever_its_directories(daemon: ProxyProcess) -> None:
    first = daemon.start()
    await daemon.until_synced()
    status, said = daemon.run()
    assert status == 1
    assert f"process {first.pid} has it" in said
    for flag in ("-v=1", "--cleanup"):
        status, said = daemon.run(f"--api-socket={daemon.base}/other/proxy.sock", flag)
        assert status == 1
        assert f"process {first.pid} is longshore-proxy in this network namespace already" in said
    assert first.poll() is None
    first.kill()
    first.wait()
    daemon.start(f"--api-socket={daemon.base}/third/proxy.sock")
    await eventually(lambda: (daemon.base / "third/proxy.sock").exists(), "a killed one holds nothing")


@one_variant
async def test_another_user_cannot_keep_the_proxy_away(daemon: ProxyProcess) -> None:
    squatter = (
        "import os, socket, time; os.setresuid(65534, 65534, 65534); s = socket.socket(socket.AF_UNIX);"
        "s.bind('\\0longshore-proxy'); s.listen(); print(flush=True); time.sleep(1000)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", squatter, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        daemon.start()
        await daemon.until_synced()
    finally:
        process.kill()
        await process.wait()
    assert f"process {process.pid} of user 65534 holds our lock" in daemon.log.read_text()


async def test_the_last_restore_of_a_dead_proxy_is_waited_for(node: Node, daemon: ProxyProcess) -> None:
    """It is slow, and holds an old picture: written after the new one it would undo it."""
    old, new = node.add_pods(2)
    daemon.put("web.yaml", service_object(selector=None))
    daemon.put("web-slice.yaml", slice_object("web", old.ip))
    slow, proceed = daemon.base / "slow", daemon.base / "proceed"
    for name in (f"iptables-{node.variant}-restore", "iptables-restore"):
        daemon.wrap(name, f"if mkdir {slow}; then while ! [ -e {proceed} ]; do sleep 0.05; done; fi")
    first = daemon.start()
    await eventually(slow.exists, "the restore has begun")
    first.kill()
    first.wait()
    daemon.put("web-slice.yaml", slice_object("web", new.ip))
    daemon.start()
    await eventually(lambda: f"longshore-proxy {first.pid}, which is dead" in daemon.log.read_text(), "it waits")
    assert "KUBE" not in node.save()
    proceed.touch()
    await daemon.until_synced()
    assert ask(node.namespace, VIP, 80)[0] == new.name
    assert old.ip not in node.save()
