"""nfs volumes with real mounts, a tmpfs in the export's place, and a FUSE file system whose daemon never answers in
that of a server that is silent. Each test has a mount namespace of its own; tests/vm has real servers.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kernel.test_pod_dir_mounts import in_mount_namespace

PROLOGUE = """
        import ctypes
        from agent.volumes import nfs, sub_paths
        from agent.volumes.mount_journal import read_mounts
        from tests.loopback.agent.volumes.fake_mount import FakeMount
        from tests.loopback.agent.volumes.test_nfs import export
        mount = FakeMount(top / "bin")
        mount.does('while [ $# -gt 2 ]; do shift; done; exec /bin/mount -t tmpfs "$1" "$2"')
        os.environ["PATH"] = f"{top}/bin:{os.environ['PATH']}"
        one, path = pod(export()), top / "pods/u1/volumes/kubernetes.io~nfs/files"
        def silence():
            subprocess.run(["umount", str(path)], check=True)
            fuse = os.open("/dev/fuse", os.O_RDWR)
            options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
            assert ctypes.CDLL(None).mount(b"dead", os.fsencode(path), b"fuse", 0, options) == 0
        def count():
            return len(read_mounts(str(top / "pods")))
"""


def test_an_export_is_mounted_once_and_goes_with_the_pod(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        PROLOGUE
        + """
        for _ in range(2):
            await prepare_volumes(one, str(top))
            (path / "file").touch()
        seen["calls"], seen["mounts"] = len(mount.calls), count()
        foreign = path / "foreign"
        foreign.mkdir()
        subprocess.run(["/bin/mount", "--bind", str(top / "bin"), str(foreign)], check=True)
        try:
            await remove_pod_dir(str(top), "u1")
        except VolumeError as error:
            seen["named"] = str(foreign) in str(error)
        seen["kept"] = (foreign / "mount").exists() and (path / "file").exists()
        subprocess.run(["umount", str(foreign)], check=True)
        await remove_pod_dir(str(top), "u1")
        seen["left"] = count() + (top / "pods/u1").exists()
        """,
    )
    assert seen == {"calls": 1, "mounts": 1, "named": True, "kept": True, "left": 0}


def test_nothing_is_forced_because_the_helper_was_killed(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        PROLOGUE
        + """
        from agent.volumes import helper
        await prepare_volumes(one, str(top))
        worker, asked = top / "worker.py", top / "asked"
        tells = f"print(sys.argv[1], file=open({str(asked)!r}, 'a'), flush=True)"
        worker.write_text(f"import os, sys; {tells}; os.kill(os.getpid(), 9)")
        real, helper._WORKER = helper._WORKER, str(worker)
        try:
            await remove_pod_dir(str(top), "u1")
        except VolumeError as error:
            seen["error"] = str(error).endswith("/files: tmpfs is mounted there")
        seen["asked"], seen["mounts"] = asked.read_text().split(), count()
        helper._WORKER = real
        await remove_pod_dir(str(top), "u1")
        seen["left"] = count() + (top / "pods/u1").exists()
        """,
    )
    assert seen == {"error": True, "asked": ["unmount"], "mounts": 1, "left": 0}


def test_a_silent_server_keeps_its_pod_from_starting_and_not_from_going(tmp_path: Path) -> None:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    seen = in_mount_namespace(
        tmp_path,
        PROLOGUE
        + """
        from agent.container_spec.facts import NodeFacts, SpecError, SpecFacts
        await prepare_volumes(one, str(top))
        (path / "part").mkdir()
        container = one.spec.containers[0]
        container.volumeMounts = [core_v1.VolumeMount(name="files", mountPath="/x", subPath="part")]
        facts = SpecFacts(node=NodeFacts(node_name="n"), root_dir=str(top))
        bind = lambda: sub_paths.bind_sub_paths(one, container, facts, volume_paths(one, str(top)))
        await bind()
        seen["mounts"] = count()
        subprocess.run(["umount", str(top / "pods/u1/volume-subpaths/files/c/0")], check=True)
        silence()
        ticks = 0
        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1
        ticking = asyncio.get_running_loop().create_task(tick())
        nfs.LOOK_S = sub_paths._BIND_S = 1.0
        try:
            await prepare_volumes(one, str(top))
        except VolumeError as error:
            seen["error"] = str(error)
        try:
            await bind()
        except SpecError as error:
            seen["part"] = str(error)
        await remove_pod_dir(str(top), "u1")
        ticking.cancel()
        seen["alive"] = ticks > 50
        seen["left"] = count() + (top / "pods/u1").exists()
        """,
    )
    cause = "cannot use nfs.example.org:/export: the server does not answer within 1 s"
    assert seen == {
        "mounts": 2,
        "error": f'MountVolume.SetUp failed for volume "files" : {cause}',
        "part": 'failed to prepare subPath for volumeMount "files" of container "c": no answer within 1 s',
        "alive": True,
        "left": 0,
    }
