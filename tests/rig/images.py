"""Small OCI images made here, byte for byte the same each time, so that no registry is needed.

Decides the content of `pause` and `hello`; `image` makes any other. An image is an OCI layout in a tar
(image-spec v1.1), as `ctr images import` takes it, with busybox and the links to its applets below the caller's files.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm"}
PAUSE = "rig.local/pause:1"
HELLO = "rig.local/hello:1"

HELLO_SCRIPT = b"""#!/bin/sh
# Says hello once, serves it over HTTP, and ends at once on SIGTERM.
trap 'exit 0' TERM INT
mkdir -p /tmp/www
echo "hello from ${HOSTNAME:-$(hostname)}" | tee /tmp/www/index.html
[ -z "$GREETING" ] || echo "$GREETING"
httpd -f -p "${PORT:-8080}" -h /tmp/www &
while :; do sleep 3600 & wait $!; done
"""


@dataclass(frozen=True)
class Image:
    """`name` is the full reference, `archive` the tar, `manifest_digest` what its reference points at."""

    name: str
    archive: bytes
    manifest_digest: str

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.manifest_digest.partition(':')[2][:16]}.tar"
        if not path.exists():
            path.write_bytes(self.archive)
        return path


@functools.cache
def pause() -> Image:
    """The sandbox's image: one process that sleeps until it is killed."""
    return image(PAUSE, {}, ["/bin/sleep", "2147483647"])


@functools.cache
def hello(foreign: tuple[str, bytes] | None = None) -> Image:
    """Prints `hello from NAME`, then the variable GREETING if set, and serves the first on port PORT (8080)."""
    return image(HELLO, {"bin/hello": HELLO_SCRIPT}, ["/bin/hello"], foreign=foreign)


def image(
    name: str,
    files: Mapping[str, bytes],
    entrypoint: Sequence[str],
    env: Mapping[str, str] | None = None,
    compress: bool = False,
    foreign: tuple[str, bytes] | None = None,
) -> Image:
    """An image of busybox and `files` (path: content, executable when in bin/); user root, no CMD.

    `foreign` is another architecture, as OCI names it, and its busybox.
    """
    arch, busybox = foreign or (architecture(), Path(_busybox()).read_bytes())
    layer = _layer({"bin/busybox": busybox, **files}, _applets())
    blob = gzip.compress(layer, 6, mtime=0) if compress else layer
    kind = "application/vnd.oci.image.layer.v1.tar" + ("+gzip" if compress else "")
    variables = {"PATH": "/bin:/usr/bin:/sbin:/usr/sbin", **(env or {})}
    config = _json(
        {
            "architecture": arch,
            "os": "linux",
            "config": {"Entrypoint": list(entrypoint), "Env": [f"{k}={v}" for k, v in variables.items()]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor(kind, blob)],
        }
    )
    top = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    tag = name.rpartition(":")[2]
    top["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [top]}
    members = {f"blobs/sha256/{_digest(b)[7:]}": b for b in (blob, config, manifest)}
    layout = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index), **members}
    return Image(name, _layer(layout, {}), _digest(manifest))


def architecture() -> str:
    """This machine's architecture as OCI names it."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def _busybox() -> str:
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox (Debian: busybox-static) is not installed; run tools/setup")
    return found


def _applets() -> dict[str, str]:
    listing = subprocess.run([_busybox(), "--list"], capture_output=True, text=True, check=True).stdout.split()
    return {f"bin/{applet}": "busybox" for applet in listing if applet != "busybox"}


def _layer(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    """A tar in sorted order with no time, no owner's name and the parent folders of every member."""
    out = io.BytesIO()
    names = {*files, *links}
    folders = {str(parent) for name in names for parent in Path(name).parents} - {"."}
    if links:
        folders |= {"tmp", "etc", "proc", "sys", "dev", "run"}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted({*folders, *names}):
            member = tarfile.TarInfo(name)
            if name in folders:
                member.type, member.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            elif name in files:
                member.size, member.mode = len(files[name]), 0o755 if "bin/" in name else 0o644
            else:
                member.type, member.linkname = tarfile.SYMTYPE, links[name]
            tar.addfile(member, io.BytesIO(files[name]) if name in files else None)
    return out.getvalue()


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
