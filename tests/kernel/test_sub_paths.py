"""Parts of volumes (subPath): bound in the volume or not at all, whatever links and renames do. Each test has a mount
namespace of its own.
"""

from __future__ import annotations

from pathlib import Path

from tests.kernel.test_pod_dir_mounts import in_mount_namespace

ROUNDS = 100_000
RACER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
rounds = 0
while not os.path.exists("../stop"):
    if rounds >= int(sys.argv[2]):
        open("../enough", "w").close()
    for _ in range(1000):
        if libc.renameat2(-100, b"part", -100, b"link", 2):  # AT_FDCWD, RENAME_EXCHANGE
            raise OSError(ctypes.get_errno(), "cannot exchange")
    rounds += 1000
print(rounds)
"""


def test_what_lies_in_the_volume_is_bound(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        """
        from agent.volumes.sub_path import bind_sub_path
        os.umask(0o077)
        volume, places = top / "volume", top / "pod/volume-subpaths/data/main"
        (volume / "a/b").mkdir(parents=True)
        volume.chmod(0o2770)
        (volume / "a/b/file").write_text("inside")
        (volume / "link").symlink_to("a/b")
        (volume / "a/up").symlink_to("../a/b/file")
        parts = ["a/b", "a/b/file", "link", "a/up", "new/deep", "link/fresh", "./a//b/"]
        for number, part in enumerate(parts):
            for _ in range(2):
                seen[f"{part}: complaint"] = bind_sub_path(str(volume), part, str(places / str(number)))
            seen[part] = os.path.samefile(volume / part, places / str(number))
        mounts = Path("/proc/self/mountinfo").read_text()
        seen["mounts"] = [mounts.count(f" {places}/{number} ") for number in range(len(parts))]
        seen["modes"] = [oct(os.stat(volume / name).st_mode & 0o7777) for name in ("new", "new/deep", "link/fresh")]
        (volume / "a/b/file").unlink()
        (volume / "a/b/file").write_text("another")
        seen["again"] = bind_sub_path(str(volume), "a/b/file", str(places / "1"))
        seen["another"] = (places / "1").read_text()
        (volume / "new/deep").rmdir()
        (volume / "new/deep").write_text("now a file")
        seen["kind"] = bind_sub_path(str(volume), "new/deep", str(places / "4"))
        seen["file"] = (places / "4").read_text()
        """,
    )
    parts = ["a/b", "a/b/file", "link", "a/up", "new/deep", "link/fresh", "./a//b/"]
    assert [seen[f"{part}: complaint"] for part in parts] == [""] * len(parts)
    assert all(seen[part] for part in parts)
    assert seen["mounts"] == [1] * len(parts)
    assert seen["modes"] == ["0o2770", "0o2770", "0o2770"]
    assert (seen["again"], seen["another"]) == ("", "another")
    assert (seen["kind"], seen["file"]) == ("", "now a file")


def test_what_leads_out_of_the_volume_is_refused(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        """
        from agent.volumes.sub_path import bind_sub_path
        volume, canary, place = top / "volume", top / "canary", top / "pod/volume-subpaths/data/main/0"
        volume.mkdir()
        (canary / "deep").mkdir(parents=True)
        (canary / "deep/secret").write_text("of the host")
        (volume / "root").symlink_to("/")
        (volume / "out").symlink_to("../canary")
        (volume / "absolute").symlink_to(canary)
        (volume / "middle").symlink_to("../canary/deep")
        (volume / "chain").symlink_to("chain2")
        (volume / "chain2").symlink_to("chain3/..")
        (volume / "chain3").symlink_to("../canary/deep")
        (volume / "magic").symlink_to("/proc/self/root")
        (volume / "loop").symlink_to("loop")
        (volume / "nowhere").symlink_to("../canary/new")
        (volume / "file").symlink_to("../canary/deep/secret")
        parts = ["root", "..", "../canary", "out", "absolute", "middle/secret", "chain", "magic", "loop", "nowhere",
                 "nowhere/new", "file", "out/new", "root/etc/passwd", "a/../../canary"]
        for part in parts:
            seen[part] = bind_sub_path(str(volume), part, str(place))
        seen["mounted"] = Path("/proc/self/mountinfo").read_text().count(str(top))
        seen["made"] = sorted(os.listdir(canary))
        """,
    )
    assert seen.pop("mounted") == 0
    assert seen.pop("made") == ["deep"]
    assert all(seen.values()), seen
    assert seen["out"] == "cannot mount 'out' of the volume: it leads out of the volume"


def test_links_exchanged_a_hundred_thousand_times_never_lead_out(tmp_path: Path) -> None:
    """CVE-2021-25741: a container exchanges a directory and a link to the host while the part is bound."""
    (tmp_path / "racer.py").write_text(RACER)
    seen = in_mount_namespace(
        tmp_path,
        f"""
        from agent.volumes.sub_path import bind_sub_path
        volume, canary = top / "volume", top / "canary"
        (volume / "part/sub").mkdir(parents=True)
        (canary / "sub").mkdir(parents=True)
        (volume / "link").symlink_to(canary)
        inside = {{(one.st_dev, one.st_ino) for one in (os.stat(volume / "part"), os.stat(volume / "part/sub"))}}
        command = [sys.executable, str(top / "racer.py"), str(volume), "{ROUNDS}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        bound = refused = escaped = 0
        stop, enough = top / "stop", top / "enough"
        import time
        until = time.monotonic() + 120
        began = time.monotonic()
        number = 0
        while time.monotonic() < until and (
            bound < 200 or refused < 200 or not enough.exists() or time.monotonic() < began + 3
        ):
            for part in ("part", "part/sub"):
                number += 1
                place = top / f"pod/{{number % 7}}"
                if bind_sub_path(str(volume), part, str(place)):
                    refused += 1
                    continue
                found = os.stat(place)
                bound += 1
                escaped += (found.st_dev, found.st_ino) not in inside
        stop.touch()
        rounds = int(process.communicate(timeout=60)[0])
        seen["enough"] = [bound >= 200, refused >= 200, rounds >= {ROUNDS}]
        seen["counts"] = [bound, refused, rounds]
        seen["escaped"] = escaped
        """,
    )
    assert seen["escaped"] == 0
    assert seen["enough"] == [True, True, True], seen["counts"]


def test_the_mounts_are_written_down_and_go_with_the_pod(tmp_path: Path) -> None:
    seen = in_mount_namespace(
        tmp_path,
        """
        from agent.container_spec.facts import NodeFacts, SpecError, SpecFacts
        from agent.volumes.mount_journal import own_mounts
        from agent.volumes.plan import volume_paths
        from agent.volumes.sub_paths import bind_sub_paths
        facts = SpecFacts(node=NodeFacts(node_name="n"), root_dir=str(top))
        one = pod(empty_dir())
        container = one.spec.containers[0]
        container.env = [core_v1.EnvVar(name="WHO", value="me")]
        container.volumeMounts = [
            core_v1.VolumeMount(name="data", mountPath="/a"),
            core_v1.VolumeMount(name="data", mountPath="/b", subPath="part"),
            core_v1.VolumeMount(name="data", mountPath="/c", subPathExpr="of/$(WHO)"),
        ]
        await prepare_volumes(one, str(top))
        for _ in range(2):
            await bind_sub_paths(one, container, facts, volume_paths(one, str(top)))
        places = top / "pods/u1/volume-subpaths/data/c"
        volume = top / "pods/u1/volumes/kubernetes.io~empty-dir/data"
        parts = {"part": "1", "of/me": "2"}
        seen["same"] = [os.path.samefile(volume / part, places / name) for part, name in parts.items()]
        seen["journal"] = sorted(os.path.basename(path) for path in own_mounts(str(top / "pods/u1")))
        (volume / "gone").symlink_to("/")
        container.volumeMounts[1].subPath = "gone"
        try:
            await bind_sub_paths(one, container, facts, volume_paths(one, str(top)))
        except SpecError as error:
            seen["error"] = str(error)
        (volume / "precious").touch()
        kept = top / "outside"
        kept.mkdir()
        (kept / "precious").touch()
        (volume / "host").symlink_to(kept)
        await remove_pod_dir(str(top), "u1")
        seen["left"] = Path("/proc/self/mountinfo").read_text().count(str(top)) + (top / "pods/u1").exists()
        seen["precious"] = (kept / "precious").exists()
        """,
    )
    words = 'failed to prepare subPath for volumeMount "data" of container "c": cannot mount \'gone\' of the volume'
    assert seen.pop("error") == f"{words}: it leads out of the volume"
    assert seen == {"same": [True, True], "journal": ["1", "2"], "left": 0, "precious": True}
