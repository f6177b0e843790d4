"""The Raspberry Pi 3's image, from its kernel's start to a login on its own console, in QEMU's raspi3b.

QEMU has none of the Raspberry Pi's firmware: what that would read from the card (config.txt, which names kernel and
initrd; cmdline.txt; the device tree) is read by this test and handed over. The firmware's own stage is not run. QEMU
resets the board as soon as its watchdog is armed, so that driver is left out.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from image.build import OUT
from image.layout import layout
from image.read import Tree
from rig import Site, until

BOARD, DTB = "raspberrypi-3", "bcm2837-rpi-3-b.dtb"
LOGIN_TIMEOUT_S = 2400.0  # emulated: on a busy machine seven minutes were too few
EMULATED = "panic=-1 dwc_otg.fiq_fsm_enable=0 module_blacklist=bcm2835_wdt systemd.show_status=1"


def firmware(card: Path, start: int, folder: Path) -> tuple[Path, Path, Path, str]:
    """What the firmware would hand to the kernel: kernel, initrd, device tree, command line."""

    def read(name: str) -> bytes:
        argv = ["mtype", "-i", f"{card}@@{start}", f"::{name}"]
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
def test_the_pi_3_boots_from_its_card_to_a_login_on_its_own_console() -> None:
    image = OUT / f"skerry-{BOARD}.img"
    if not image.is_file():
        pytest.skip(f"make image-{BOARD}")
    plan = layout(Tree().board(BOARD))
    with Site() as site:
        card, console = site.folder / "pi.img", site.folder / "console"
        subprocess.run(["cp", "--sparse=always", str(image), str(card)], check=True)
        with card.open("r+b") as file:
            file.truncate(1 << (plan.end - 1).bit_length())  # QEMU wants a power of two
        kernel, initrd, dtb, line = firmware(card, plan.boot.start, site.folder)
        qemu = site.spawn(
            ["qemu-system-aarch64", "-M", "raspi3b", "-display", "none", "-monitor", "none", "-no-reboot",
             "-dtb", str(dtb), "-kernel", str(kernel), "-initrd", str(initrd), "-append", f"{line} {EMULATED}",
             "-drive", f"file={card},if=sd,format=raw", "-serial", "null", "-serial", f"file:{console}"],
            "pi-qemu",
        )  # fmt: skip

        def said() -> str:
            assert qemu.running, qemu.log()
            text = console.read_text(errors="replace") if console.exists() else ""
            assert "INITRD-FAILED" not in text, text[-2000:]
            return text

        until(lambda: " login:" in said(), "a login", LOGIN_TIMEOUT_S, said)
        text = re.sub(r"\x1b\[[0-9;]*m", "", said())
        qemu.kill()
    assert "Welcome to Debian GNU/Linux" in text
    for unit in ("data.mount", "var-lib-skerry.mount"):
        assert re.search(rf"Mounted {re.escape(unit)}", text), f"{unit} of the card's data partition"
