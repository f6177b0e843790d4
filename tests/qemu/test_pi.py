"""The Raspberry Pi 3's image, from its kernel's start to a shell on its own console and a ready agent, in QEMU's
raspi3b.

QEMU has none of the Raspberry Pi's firmware: what that would read from the card (config.txt, which names kernel and
initrd; cmdline.txt; the device tree) is read by this test and handed over. The firmware's own stage is not run. QEMU
resets the board as soon as its watchdog is armed, so that driver is left out. On a busy machine the emulated board
needs more than the 90 s after which systemd gives its console up, and with it the login: it is given more.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from image.build import OUT
from image.layout import layout
from image.read import Tree
from qemu.card import Card
from qemu.console import Console
from qemu.qmp import dial
from rig import Site, until

BOARD, DTB, TTY = "raspberrypi-3", "bcm2837-rpi-3-b.dtb", "ttyS1"
LOGIN_TIMEOUT_S = 2400.0  # emulated: on a busy machine seven minutes were too few
COMMAND_TIMEOUT_S = 300.0
EMULATED = (
    "panic=-1 dwc_otg.fiq_fsm_enable=0 module_blacklist=bcm2835_wdt systemd.show_status=1 "
    f"systemd.default_timeout_start_sec={LOGIN_TIMEOUT_S:.0f}"
)


def firmware(card: Card, folder: Path) -> tuple[Path, Path, Path, str]:
    """What the firmware would hand to the kernel: kernel, initrd, device tree, command line."""

    def read(name: str) -> bytes:
        argv = ["mtype", "-i", f"{card.path}@@{card.plan.boot.start}", f"::{name}"]
        return subprocess.run(argv, capture_output=True, check=True).stdout

    config = read("config.txt").decode()
    said = dict(re.findall(r"^(os_prefix|kernel)=(\S+)$", config, re.MULTILINE))
    (initrd,) = re.findall(r"^initramfs (\S+) followkernel$", config, re.MULTILINE)
    made = []
    for name in (said["kernel"], initrd, DTB):
        made.append(folder / name)
        made[-1].write_bytes(read(said["os_prefix"] + name))
    line = read(f"{said['os_prefix']}cmdline.txt").decode().strip().replace("quiet ", "")
    return made[0], made[1], made[2], line


@pytest.mark.slow
def test_the_pi_3_boots_from_its_card_to_a_ready_agent() -> None:
    image = OUT / f"skerry-{BOARD}.img"
    if not image.is_file():
        pytest.skip(f"make image-{BOARD}")
    size = 1 << (layout(Tree().board(BOARD)).end - 1).bit_length()  # QEMU wants a power of two
    with Site() as site:
        card, serial = Card(image, site.folder / "pi.img", BOARD, size >> 20, TTY), site.folder / "serial"
        kernel, initrd, dtb, line = firmware(card, site.folder)
        qemu = site.spawn(
            ["qemu-system-aarch64", "-M", "raspi3b", "-display", "none", "-monitor", "none", "-no-reboot",
             "-dtb", str(dtb), "-kernel", str(kernel), "-initrd", str(initrd), "-append", f"{line} {EMULATED}",
             "-drive", f"file={card.path},if=sd,format=raw", "-serial", "null",
             "-serial", f"unix:{serial},server=on,wait=on"],
            "pi-qemu",
        )  # fmt: skip
        connection = until(lambda: dial(serial), "QEMU to listen", explain=qemu.log)
        assert connection is not None
        console = Console(connection, site.logs / "console.log")

        def run(command: str) -> str:
            return console.run(command, COMMAND_TIMEOUT_S, check=False).strip()

        console.login(LOGIN_TIMEOUT_S)
        until(lambda: run("systemctl is-active skerry") == "active", "skerry to be ready", LOGIN_TIMEOUT_S,
              lambda: run("systemctl status --no-pager -l skerry"))  # fmt: skip
        assert run(". /etc/os-release; echo $ID $VERSION_ID") == "debian 12"
        assert run("tr -d '\\0' < /proc/device-tree/model") == "Raspberry Pi 3 Model B"
        for path in ("/data", "/var/lib/skerry", "/var/lib/containerd"):
            assert run(f"findmnt -no SOURCE {path}").startswith("/dev/mmcblk"), path
        free_mb = (size - card.plan.data.start) >> 20
        assert int(run("df -BM --output=size /data | tail -1").rstrip("M")) > free_mb * 0.9, "it has grown"
        assert run("systemctl --failed --plain --no-legend") == ""
        console.close()
        qemu.kill()
