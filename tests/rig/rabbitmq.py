"""RabbitMQ of Debian 13 in the hub's network: a root of its own (tools/rabbitmq), laid over with what it writes.

Its files are the caller's. Knows how it is started, asked and ended, and nothing of who its clients are.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .process import Process
from .site import ROOT

if TYPE_CHECKING:
    from .site import Site

UNPACKED = ROOT / ".cache" / "rabbitmq" / "root"
START_TIMEOUT_S = CTL_TIMEOUT_S = 120.0
ETC = "etc/rabbitmq"


def missing() -> str:
    """Why it cannot be run here; empty if it can."""
    if os.environ.get("SKERRY_BROKERS") != "1":
        return "slow: make brokers"
    return "needs root" if os.geteuid() != 0 else ""


class RabbitMq:
    """One broker; what it has written is there after `start()` again, and gone with the site."""

    def __init__(self, site: Site, files: Mapping[str, bytes], port: int) -> None:
        """`files`: path below its root → content. They belong to its user, and no other may read them."""
        subprocess.run([ROOT / "tools" / "rabbitmq"], check=True, capture_output=True)
        self._site, self._port = site, port
        self.folder = site.folder / "rabbitmq"
        self.root = self.folder / "root"
        (self.folder / "files").mkdir(parents=True)
        for path, content in files.items():
            file = self.folder / "files" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        self._inside(f"""
            mkdir {self.folder}/written && mount -t tmpfs tmpfs {self.folder}/written
            cd {self.folder}/written && mkdir upper work {self.root}
            mount -t overlay -o lowerdir={UNPACKED},upperdir=upper,workdir=work overlay {self.root}
            mount --rbind /dev {self.root}/dev && mount --rbind /proc {self.root}/proc
            cp -r {self.folder}/files/. {self.root}/
            chroot {self.root} chown -R rabbitmq: /{ETC}
            chroot {self.root} chmod -R go= /{ETC}
        """)

    def start(self) -> Process:
        """Returned once its port takes connections."""
        # As under systemd: the process that is started becomes the broker, and SIGTERM ends it in good order.
        argv = ["chroot", "--userspec=rabbitmq", str(self.root), "env", "HOME=/var/lib/rabbitmq"]
        argv += ["RUNNING_UNDER_SYSTEMD=1", "/usr/lib/rabbitmq/bin/rabbitmq-server"]
        process = self._site.spawn(argv, name="rabbitmq")
        self._site.wait_port(self._port, process, START_TIMEOUT_S)
        self.ctl("await_startup")
        return process

    def ctl(self, *args: str) -> str:
        """`rabbitmqctl ARGS` to its end; RigError where it fails."""
        return self.run("rabbitmqctl", "-q", *args)

    def run(self, *argv: str) -> str:
        """Any command in its root, as root."""
        return self._site.run(["chroot", str(self.root), *argv], CTL_TIMEOUT_S).stdout

    def log(self) -> str:
        """What the broker has written of itself."""
        found = self._site.run(["sh", "-c", f"cat {self.root}/var/log/rabbitmq/*.log"], check=False)
        return found.stdout

    def _inside(self, script: str) -> None:
        self._site.run(["sh", "-ec", script])
