"""A registry on a board's own loopback, whose images only one user may have: Debian's docker-registry.

containerd speaks HTTP to a registry on loopback, so nothing has to be trusted for it. Its images lie on the site, not
on the board's disk: a search of the board finds nothing that it did not bring there itself.
"""

from __future__ import annotations

import ctypes
import json
import shutil
from typing import TYPE_CHECKING

from . import containerd
from .images import Image
from .process import Process, RigError

if TYPE_CHECKING:
    from .device import Device

PORT = 5000
HOST = f"127.0.0.1:{PORT}"


def missing() -> str:
    """Why there can be none here; empty if there can."""
    return "" if shutil.which("docker-registry") else "no docker-registry: tools/setup docker-registry"


class Registry:
    """`user` and `password` are who may push and pull."""

    def __init__(self, device: Device, user: str, password: str) -> None:
        self.device, self.user, self.password = device, user, password
        self._folder = device.site.folder / f"registry-{device.name}"
        self._folder.mkdir(exist_ok=True)
        (self._folder / "htpasswd").write_text(f"{user}:{_bcrypt(password)}\n")
        config = self._folder / "config.yml"
        config.write_text(json.dumps(self._config()))  # JSON is YAML
        self.process: Process = device.spawn(["docker-registry", "serve", str(config)], "registry")
        self.process.wait_log("listening on")

    def push(self, image: Image) -> None:
        """Its name has to begin with HOST. Afterwards the board has nothing of it: it went through a namespace of
        containerd that no pod sees."""
        archive = self._folder / "image.tar"
        archive.write_bytes(image.archive)
        self._ctr("images", "import", str(archive))
        self._ctr("images", "push", "--plain-http", "--user", f"{self.user}:{self.password}", image.name)
        self._ctr("images", "remove", "--sync", image.name)

    # ---- private ---------------------------------------------------------------------------------------------------

    def _ctr(self, *args: str) -> None:
        self.device.nsenter(["ctr", "--address", containerd.SOCKET, "--namespace", "push", *args])

    def _config(self) -> dict[str, object]:
        return {
            "version": 0.1,
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "images")}},
            "http": {"addr": HOST},
            "auth": {"htpasswd": {"realm": "rig", "path": str(self._folder / "htpasswd")}},
        }


def _bcrypt(password: str) -> str:
    """By libcrypt, which every Debian has, because the registry takes no other form."""
    libcrypt = ctypes.CDLL("libcrypt.so.1")
    libcrypt.crypt.restype = ctypes.c_char_p
    made = libcrypt.crypt(password.encode(), b"$2b$05$abcdefghijklmnopqrstuu")
    if not made or not made.startswith(b"$2b$"):
        raise RigError("libcrypt makes no bcrypt")
    return bytes(made).decode()
