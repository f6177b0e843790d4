"""What of a kernel's modules and of a package of firmware a board's root takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from image.root import firmware, kept


def test_of_the_modules_a_board_may_need_all_that_they_depend_on_is_kept() -> None:
    said = (
        "kernel/drivers/net/ethernet/acme.ko: kernel/drivers/other/acme-lib.ko kernel/lib/crc.ko\n"
        "kernel/drivers/other/acme-lib.ko:\n"
        "kernel/drivers/gpu/acme-gpu.ko: kernel/lib/crc.ko\n"
        "kernel/drivers/net/wireless/ath/ath.ko:\n"
        "kernel/drivers/regulator/fixed.ko.xz:\n"
    )
    assert kept(said) == {
        "kernel/drivers/net/ethernet/acme.ko", "kernel/drivers/other/acme-lib.ko", "kernel/lib/crc.ko",
        "kernel/drivers/regulator/fixed.ko.xz",
    }  # fmt: skip


@pytest.mark.parametrize("merged", [False, True], ids=["Debian 12", "Debian 13, whose kernel brought /lib as a link"])
def test_a_board_s_radio_finds_its_firmware_and_no_other_is_taken(tmp_path: Path, merged: bool) -> None:
    packages, root = tmp_path / "packages", tmp_path / "root"
    if merged:
        (packages / "usr/lib").mkdir(parents=True)
        (packages / "lib").symlink_to("usr/lib")
    for name in (
        "lib/firmware/cypress/cyfmac43430-sdio.bin", "lib/firmware/brcm/brcmfmac4366b-pcie.bin",
        "usr/lib/firmware/regulatory.db-debian",
    ):  # fmt: skip
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(name)
    (packages / "lib/firmware/brcm/brcmfmac43430-sdio.bin").symlink_to("../cypress/cyfmac43430-sdio.bin")
    firmware(root, packages)
    top = root / "usr/lib/firmware"
    assert (top / "brcm/brcmfmac43430-sdio.bin").is_symlink()
    assert (top / "brcm/brcmfmac43430-sdio.bin").read_text() == "lib/firmware/cypress/cyfmac43430-sdio.bin"
    assert sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir()) == [
        "brcm/brcmfmac43430-sdio.bin", "cypress/cyfmac43430-sdio.bin", "regulatory.db-debian",
    ]  # fmt: skip
