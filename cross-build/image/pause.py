"""The image that containerd keeps a pod's sandbox with, made here: busybox asleep, the same bytes each time.

It ends at once on SIGTERM, so that a board with pods on it shuts down without waiting, and reaps what is orphaned.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

NAME = "localhost/skerry-pause:1"
SCRIPT = "trap 'exit 0' TERM INT; while :; do /busybox sleep 86400 & wait $!; done"
_ARCH = {"arm64": {"architecture": "arm64", "variant": "v8"}, "armhf": {"architecture": "arm", "variant": "v7"}}


def write(target: Path, busybox: bytes, arch: str) -> None:
    """Write an OCI layout in a tar (image-spec 1.1), as `ctr images import` takes it."""
    layer = _tar({"busybox": busybox}, 0o755)
    config = _json({
        **_ARCH[arch], "os": "linux", "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "config": {"Entrypoint": ["/busybox", "sh", "-c", SCRIPT]},
    })  # fmt: skip
    manifest = _json({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    })  # fmt: skip
    top = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    top["annotations"] = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top]}
    blobs = {f"blobs/sha256/{_digest(b)[7:]}": b for b in (layer, config, manifest)}
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(
        _tar({"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **blobs}, 0o644)
    )


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
