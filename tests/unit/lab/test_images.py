import hashlib
import io
import json
import tarfile

from lab.images import Layer, docker_archive


def small_layer() -> bytes:
    layer = Layer()
    layer.directory("bin")
    layer.file("bin/tool", b"#!", 0o755)
    layer.symlink("bin/other", "tool")
    return layer.finish()


def test_layer_is_reproducible_and_owned_by_root() -> None:
    assert small_layer() == small_layer()
    with tarfile.open(fileobj=io.BytesIO(small_layer())) as tar:
        entries = {entry.name: entry for entry in tar}
    assert entries["bin/tool"].mode == 0o755
    assert entries["bin/other"].linkname == "tool"
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 0)}


def test_archive_names_image_config_and_layer() -> None:
    layer = small_layer()
    with tarfile.open(fileobj=io.BytesIO(docker_archive("x.test/y:1", layer, ["/bin/tool"], user="1000"))) as tar:
        parts = {entry.name: extracted.read() for entry in tar if (extracted := tar.extractfile(entry))}
    (manifest,) = json.loads(parts["manifest.json"])
    assert manifest["RepoTags"] == ["x.test/y:1"]
    assert parts[manifest["Layers"][0]] == layer
    config = json.loads(parts[manifest["Config"]])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
    assert config["config"] == {"Entrypoint": ["/bin/tool"], "Env": ["PATH=/bin"], "WorkingDir": "/", "User": "1000"}
