"""The rig's images: the same bytes each time, and what a runtime finds in them."""

import io
import json
import shutil
import tarfile
from typing import Any

import pytest

from rig import images

pytestmark = pytest.mark.skipif(shutil.which("busybox") is None, reason="needs busybox-static (tools/setup)")


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        files = ((m.name, tar.extractfile(m)) for m in tar.getmembers())
        return {name: file.read() for name, file in files if file is not None}


def blob(image: images.Image, digest: str) -> bytes:
    return members(image.archive)[f"blobs/sha256/{digest.removeprefix('sha256:')}"]


def manifest(image: images.Image) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(blob(image, image.manifest_digest))
    return value


def test_an_image_made_twice_has_the_same_bytes() -> None:
    def make(compress: bool) -> images.Image:
        return images.image("rig.local/x:1", {"etc/b": b"2", "etc/a": b"1"}, ["/bin/true"], {"A": "1"}, compress)

    assert make(False) == make(False)
    assert make(True) == make(True)
    assert make(True).manifest_digest != make(False).manifest_digest


def test_the_order_in_which_files_are_given_does_not_matter() -> None:
    one = images.image("rig.local/x:1", {"etc/a": b"1", "etc/b": b"2"}, ["/bin/true"])
    other = images.image("rig.local/x:1", {"etc/b": b"2", "etc/a": b"1"}, ["/bin/true"])
    assert one == other


def test_another_content_is_another_image() -> None:
    one = images.image("rig.local/x:1", {"etc/a": b"1"}, ["/bin/true"])
    other = images.image("rig.local/x:1", {"etc/a": b"2"}, ["/bin/true"])
    assert one.manifest_digest != other.manifest_digest


def test_the_index_names_the_image_and_points_at_its_manifest() -> None:
    index = json.loads(members(images.hello().archive)["index.json"])
    [entry] = index["manifests"]
    assert entry["digest"] == images.hello().manifest_digest
    assert entry["annotations"]["io.containerd.image.name"] == "rig.local/hello:1"


@pytest.mark.parametrize("compress", [False, True])
def test_the_configuration_names_the_layer_by_its_uncompressed_digest(compress: bool) -> None:
    made = images.image("rig.local/x:1", {"etc/a": b"1"}, ["/bin/true"], {"A": "1"}, compress)
    parts = manifest(made)
    config = json.loads(blob(made, parts["config"]["digest"]))
    [layer] = parts["layers"]
    content = blob(made, layer["digest"])
    assert layer["size"] == len(content)
    assert layer["mediaType"].endswith("+gzip") is compress
    assert (config["rootfs"]["diff_ids"] == [layer["digest"]]) is not compress
    assert "A=1" in config["config"]["Env"]


def test_a_layer_holds_the_files_the_shell_and_its_applets() -> None:
    made = images.image("rig.local/x:1", {"srv/data/file": b"content"}, ["/bin/sh"])
    with tarfile.open(fileobj=io.BytesIO(blob(made, manifest(made)["layers"][0]["digest"]))) as tar:
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("bin/busybox").mode == 0o755
        assert tar.getmember("srv/data").isdir()
        assert tar.getmember("tmp").mode == 0o1777
        file = tar.extractfile("srv/data/file")
        assert file is not None
        assert file.read() == b"content"
        assert {m.mtime for m in tar.getmembers()} == {0}
