"""What is mounted in a pod's directory: memory volumes come and go, foreign mounts survive. Each test has a mount
namespace of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def in_mount_namespace(tmp_path: Path, body: str) -> dict[str, object]:
    """Run the body of a coroutine in a mount namespace of its own; its `seen`."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    program = "\n".join(
        [
            "import asyncio, json, os, subprocess, sys",
            "from pathlib import Path",
            "from tests.loopback.agent.volumes.test_pod_dir import *",
            "async def main():",
            "    seen, top = {}, Path(sys.argv[1])",
            textwrap.indent(textwrap.dedent(body), "    "),
            "    print(json.dumps(seen))",
            "asyncio.run(main())",
        ]
    )
    command = ["unshare", "--mount", sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert isinstance(seen, dict)
    return seen


def test_memory_is_a_tmpfs_of_that_size_and_goes_with_the_pod(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        """
        one = pod(empty_dir("m", medium="Memory", size="8Mi"))
        for _ in range(2):
            await prepare_volumes(one, str(top))
        path = top / "pods/u1/volumes/kubernetes.io~empty-dir/m"
        size = os.statvfs(path)
        seen["bytes"] = size.f_blocks * size.f_frsize
        seen["mode"] = mode(path)
        (path / "file").write_text("x")
        mountinfo = Path("/proc/self/mountinfo")
        seen["mounted"] = mountinfo.read_text().count(str(path))
        await remove_pod_dir(str(top), "u1")
        seen["left"] = mountinfo.read_text().count(str(top)) + path.exists()
        """,
    )
    assert seen == {"bytes": 8 * 2**20, "mode": 0o777, "mounted": 1, "left": 0}


@pytest.mark.parametrize("medium", ["HugePages", "HugePages-2Mi"])
def test_huge_pages_are_a_file_system_of_pages_of_that_size(tmp_path: Path, medium: str) -> None:
    if not Path("/sys/kernel/mm/hugepages/hugepages-2048kB").exists():
        pytest.skip("needs a kernel with huge pages of 2 MiB")
    seen = in_mount_namespace(
        tmp_path,
        f"""
        one = pod(empty_dir("h", medium="{medium}"))
        one.spec.containers[0].resources = core_v1.ResourceRequirements(limits={{"hugepages-2Mi": "4Mi"}})
        await prepare_volumes(one, str(top))
        path = top / "pods/u1/volumes/kubernetes.io~empty-dir/h"
        seen["page"] = os.statvfs(path).f_bsize
        seen["mode"] = mode(path)
        await remove_pod_dir(str(top), "u1")
        seen["left"] = Path("/proc/self/mountinfo").read_text().count(str(top)) + path.exists()
        """,
    )
    assert seen == {"page": 2 << 20, "mode": 0o777, "left": 0}


def test_a_secret_lies_in_memory_and_what_others_mount_over_it_is_not_ours(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        """
        from agent.container_spec.facts import NodeFacts, SpecFacts
        from agent.volumes.mount_journal import own_mounts
        from agent.volumes.pod_dir import update_volumes
        from kube_objects.config_data import ConfigData, ConfigObjects
        def facts(**data):
            one = ConfigData("secret", "", "s", {key: text.encode() for key, text in data.items()})
            return SpecFacts(node=NodeFacts(node_name="n"), objects=ConfigObjects([one]))
        one = pod(core_v1.Volume(name="s", secret=core_v1.SecretVolumeSource(secretName="s")))
        for _ in range(2):
            await prepare_volumes(one, str(top), facts=facts(a="old"))
        path = top / "pods/u1/volumes/kubernetes.io~secret/s"
        mountinfo = Path("/proc/self/mountinfo")
        lines = [line for line in mountinfo.read_text().splitlines() if str(path) in line]
        seen["mounts"] = [line.split(" - ")[1].split()[0] for line in lines]
        seen["noswap"] = "noswap" in mountinfo.read_text() or os.uname().release.split(".") < ["6", "4"]
        seen["journal"] = own_mounts(str(top / "pods/u1")) == {str(path)}
        await update_volumes(one, str(top), facts(a="new"))
        seen["text"] = (path / "a").read_text()
        try:
            await update_volumes(one, str(top), SpecFacts(node=NodeFacts(node_name="n")))
        except VolumeError as error:
            seen["error"] = str(error)
        await prepare_volumes(one, str(top))
        seen["kept"] = (path / "a").read_text()
        outside = top / "outside"
        outside.mkdir()
        (outside / "precious").touch()
        foreign = top / "pods/u1/foreign"
        foreign.mkdir()
        subprocess.run(["mount", "--bind", str(outside), str(foreign)], check=True)
        try:
            await remove_pod_dir(str(top), "u1")
        except VolumeError as error:
            seen["named"] = str(foreign) in str(error)
        seen["precious"] = (outside / "precious").exists()
        subprocess.run(["umount", str(foreign)], check=True)
        await remove_pod_dir(str(top), "u1")
        seen["left"] = mountinfo.read_text().count(str(top)) + path.exists()
        """,
    )
    assert seen == {
        "mounts": ["tmpfs"],
        "noswap": True,
        "journal": True,
        "text": "new",
        "error": 'MountVolume.SetUp failed for volume "s" : secret "s" not found',
        "kept": "new",
        "named": True,
        "precious": True,
        "left": 0,
    }


@pytest.mark.parametrize("source", ["bind of the same file system", "tmpfs"])
def test_a_foreign_mount_is_named_and_survives(tmp_path: Path, source: str) -> None:
    mount = ["-t", "tmpfs", "none"] if source == "tmpfs" else ["--bind", str(tmp_path / "outside")]
    seen = in_mount_namespace(
        tmp_path,
        f"""
        outside = top / "outside"
        outside.mkdir()
        await prepare_volumes(pod(empty_dir()), str(top))
        volume = top / "pods/u1/volumes/kubernetes.io~empty-dir/data"
        inside = volume / "a b/mounted"
        inside.mkdir(parents=True)
        (volume / "own").touch()
        subprocess.run(["mount", *{mount!r}, str(inside)], check=True)
        (inside / "precious").touch()
        try:
            await remove_pod_dir(str(top), "u1")
        except VolumeError as error:
            seen["error"] = str(error)
        seen["precious"] = (inside / "precious").exists()
        seen["own"] = (volume / "own").exists()
        subprocess.run(["umount", str(inside)], check=True)
        await remove_pod_dir(str(top), "u1")
        seen["left"] = (top / "pods/u1").exists()
        """,
    )
    assert "a b/mounted" in str(seen.pop("error"))
    assert seen == {"precious": True, "own": False, "left": False}


def test_a_foreign_mount_in_memory_and_a_mounted_file_survive_too(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        """
        (top / "file").write_text("precious")
        await prepare_volumes(pod(empty_dir("m", medium="Memory"), empty_dir("d")), str(top))
        home = top / "pods/u1/volumes/kubernetes.io~empty-dir"
        (home / "m/in").mkdir()
        (home / "d/file").touch()
        subprocess.run(["mount", "--bind", str(top), str(home / "m/in")], check=True)
        subprocess.run(["mount", "--bind", str(top / "file"), str(home / "d/file")], check=True)
        try:
            await remove_pod_dir(str(top), "u1")
        except VolumeError as error:
            seen["named"] = [name in str(error) for name in ("empty-dir/m/in", "empty-dir/d/file")]
        seen["precious"] = (top / "file").read_text()
        """,
    )
    assert seen == {"named": [True, True], "precious": "precious"}


def test_a_file_system_that_hangs_is_given_up_and_the_loop_goes_on(tmp_path: Path) -> None:
    """A FUSE mount whose daemon never answers, as a dead NFS server would behave."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    seen = in_mount_namespace(
        tmp_path,
        """
        import ctypes
        from agent.volumes.helper import HelperError, run_helper
        fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        seen["mount"] = libc.mount(b"dead", os.fsencode(top), b"fuse", 0, options)
        ticks = 0
        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1
        ticking = asyncio.get_running_loop().create_task(tick())
        try:
            await run_helper("check-host-paths", "Directory", str(top / "sub"), deadline_s=1)
        except HelperError as error:
            seen["error"] = str(error)
        ticking.cancel()
        seen["alive"] = ticks > 10
        os.close(fuse)
        """,
    )
    assert seen == {"mount": 0, "error": "no answer within 1 s", "alive": True}


def test_what_hangs_in_a_silent_file_system_is_not_followed_by_more_of_it(tmp_path: Path) -> None:
    """A FUSE daemon that takes what it is asked and never answers: nothing can end who waits for it."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    seen = in_mount_namespace(
        tmp_path,
        """
        import ctypes, struct
        from agent.volumes import file_systems
        file_systems._WAIT_S = 1.0
        fuse, requests, clock = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK), [], [0.0]
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        seen["mount"] = libc.mount(b"dead", os.fsencode(top), b"fuse", 0, options)
        def take():
            _, opcode, unique = struct.unpack_from("=IIQ", os.read(fuse, 1 << 17))
            requests.append(opcode)
            if opcode == 26:
                answer = (80, 0, unique, 7, 31, 0, 0, 12, 9, 4096, *[0] * 11)
                os.write(fuse, struct.pack("=IiQIIIIHHIIHHIIIIIIII", *answer))
        asyncio.get_running_loop().add_reader(fuse, take)
        places = file_systems.FileSystems(lambda: clock[0])
        while 17 not in requests:  # one that is killed before it has asked does not hang
            await places.read([str(top)])
            clock[0] += 1e6
        for clock[0] in (2e9, 3e9, 4e9):
            seen[f"at {clock[0]:g} s"] = list(await places.read([str(top)]))
        seen["asked"] = requests.count(17)
        asyncio.get_running_loop().remove_reader(fuse)
        os.close(fuse)
        clock[0] = 5e9
        while places._silence.holds(str(top)):
            await asyncio.sleep(0.05)
        """,
    )
    assert seen == {"mount": 0, "asked": 1, "at 2e+09 s": [], "at 3e+09 s": [], "at 4e+09 s": []}
