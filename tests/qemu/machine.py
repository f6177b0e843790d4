"""One board in full-system QEMU: its card, its power, its cable. Started in the network of a rig's Site, so that
10.0.2.2 in the guest is the hub's loopback. Ends only the processes that it started.

QEMU ends when the guest reboots or panics (-no-reboot); booting again is then `boot()`. With `drop_unflushed` the card
is behind nbdkit's cache filter, which forgets at a power cut whatever the guest has not flushed: a plain kill of QEMU
would leave it in this machine's page cache.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from rig import Process, RigError, Site, until

from .card import Card
from .console import Console
from .qmp import Qmp, dial

UBOOT = {
    "arm64": Path("/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
    "armhf": Path("/usr/lib/u-boot/qemu_arm/u-boot.bin"),
}
QEMU = {"arm64": ("qemu-system-aarch64", "cortex-a53"), "armhf": ("qemu-system-arm", "cortex-a7")}
TOOLS = ("qemu-system-aarch64", "qemu-system-arm", "nbdkit", "mcopy", "debugfs", "mmdebstrap", "genimage")
SOCKET_TIMEOUT_S, END_TIMEOUT_S, HALT_TIMEOUT_S = 60.0, 20.0, 240.0
MEMORY_MB = 512


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


class Machine:
    """`more` are further arguments of QEMU. `console` and `qmp` are those of the present boot."""

    def __init__(self, site: Site, name: str, card: Card, memory_mb: int = MEMORY_MB, more: Sequence[str] = ()) -> None:
        self.site, self.name, self.card = site, name, card
        self.memory_mb, self.more = memory_mb, list(more)
        # Not below site.folder: a socket's path has at most 107 characters.
        self.folder = site.folder / name
        self.folder.mkdir(exist_ok=True)
        self.boots = 0
        self.started = 0.0
        self.drop_unflushed = False
        self._qemu: Process | None = None
        self._disk: Process | None = None
        self._console: Console | None = None
        self._qmp: Qmp | None = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.power_cut()

    @property
    def console(self) -> Console:
        assert self._console is not None, "the board is off"
        return self._console

    @property
    def qmp(self) -> Qmp:
        assert self._qmp is not None, "the board is off"
        return self._qmp

    @property
    def ident(self) -> str:
        """The board's name, as its image has it."""
        return self.card.board.short

    @property
    def running(self) -> bool:
        return self._qemu is not None and self._qemu.running

    def boot(self, link: bool = True, login: bool = True, extra: Sequence[str] = ()) -> None:
        """Power on, the cable in or out from the first moment; returns with a root shell unless `login` is False."""
        assert not self.running
        self._close()
        self.boots += 1
        serial, control = self.folder / "serial", self.folder / "qmp"
        for path in (serial, control):
            path.unlink(missing_ok=True)
        argv = self._argv(serial, control, self._drive(), extra)
        self._qemu = self.site.spawn(argv, f"{self.name}-qemu-{self.boots}")
        self._qmp = Qmp(self._connected(control))
        self._console = Console(self._connected(serial), self.site.logs / f"{self.name}-console-{self.boots}.log")
        if not link:
            self._qmp.link(False)
        self.started = time.monotonic()
        self._qmp.run("cont")
        if login:
            self._console.login()

    def power_cut(self) -> None:
        """The plug is pulled: QEMU and the card's cache are gone at once."""
        for process in (self._qemu, self._disk):
            if process is not None and process.running:
                process.kill()
        self._qemu = self._disk = None
        self._close()

    def reboot(self, link: bool = True) -> None:
        """`systemctl reboot` in the guest, and on again."""
        self.console.run("systemctl --no-block reboot")
        self.wait_end()
        self.boot(link)

    def wait_end(self, timeout_s: float = HALT_TIMEOUT_S) -> None:
        """Until the guest has reset itself, which ends QEMU."""
        until(lambda: not self.running, "the guest to reset itself", timeout_s, self.console.tail)
        self.power_cut()

    def _close(self) -> None:
        for part in (self._console, self._qmp):
            if part is not None:
                part.close()
        self._console = self._qmp = None

    def _drive(self) -> str:
        if not self.drop_unflushed:
            return f"file={self.card.path},if=none,id=d0,format=raw,cache=writeback"
        nbd = self.folder / "nbd"
        nbd.unlink(missing_ok=True)
        argv = ["nbdkit", "-f", "-U", str(nbd), "--filter=cache", "file", str(self.card.path), "cache=writeback"]
        self._disk = self.site.spawn(argv, f"{self.name}-nbdkit-{self.boots}")
        until(nbd.exists, "nbdkit's socket", SOCKET_TIMEOUT_S, self._disk.log)
        return f"file=nbd+unix:///?socket={nbd},if=none,id=d0,format=raw,cache=writeback"

    def _argv(self, serial: Path, control: Path, drive: str, extra: Sequence[str]) -> list[str]:
        program, cpu = QEMU[self.card.board.arch]
        return [
            program, "-M", "virt", "-cpu", cpu, "-smp", "2", "-m", str(self.memory_mb), "-S",
            "-display", "none", "-monitor", "none", "-no-reboot", "-bios", str(UBOOT[self.card.board.arch]),
            "-serial", f"unix:{serial},server=on,wait=off", "-qmp", f"unix:{control},server=on,wait=off",
            "-drive", drive, "-device", "virtio-blk-device,drive=d0",
            "-netdev", "user,id=net0", "-device", "virtio-net-device,netdev=net0,id=nic0",
            "-device", "virtio-rng-device", "-device", "i6300esb", "-watchdog-action", "reset",
            *self.more, *extra,
        ]  # fmt: skip

    def _connected(self, path: Path) -> socket.socket:
        """RigError with what QEMU said when it ends instead."""
        qemu = self._qemu
        assert qemu is not None

        def there() -> socket.socket | None:
            if not qemu.running:
                raise RigError(f"QEMU ended ({qemu.returncode}):\n{qemu.log()}")
            return dial(path)

        made = until(there, f"QEMU to listen at {path.name}", SOCKET_TIMEOUT_S, qemu.log)
        assert made is not None
        return made
