"""The board's own script that takes the wireless network from the boot partition, on real files and a real mount."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from image.read import ROOT

from .boot_partition import boot, needs_namespaces

SCRIPT = ROOT / "firmware-configs/boards/raspberrypi/overlay/usr/lib/skerry-board/wifi"
PHRASE = 'a quay "with" \\ tides'
GOOD = 'network = "Harbour Office"\npassphrase = \'a quay "with" \\ tides\'\ncountry = "GB"\n'
OTHER = GOOD.replace("Harbour", "Head")
# wpa_passphrase of Debian's wpasupplicant 2.10 for the name and the pass phrase above.
KEY = "6499e04f3294ba527c0a0ede8d1507c1e2fc243bae956e153889bdb7a4e35d93"
REGULATORY = b"RGDB\0\0\0\x14" + b"DE\0\x10" + b"GB\0\x20" + bytes(4) + b"XX\0\x01"


@dataclass(frozen=True, slots=True)
class Run:
    code: int
    said: str
    card: dict[str, str]  # what is on the boot partition afterwards


class Board:
    """A boot partition and a folder of skerry's configuration, kept from boot to boot."""

    def __init__(self, folder: Path) -> None:
        self.card, self.etc, self.folder = folder / "card", folder / "etc", folder
        for path in (self.card, self.etc):
            path.mkdir()
        (folder / "regulatory.db").write_bytes(REGULATORY)

    def boot(self, wifi: str | bytes | None) -> Run:
        if wifi is not None:
            (self.card / "skerry-wifi.toml").write_bytes(wifi.encode() if isinstance(wifi, str) else wifi)
        done = boot(self.card, self.folder, SCRIPT, self.etc, self.folder / "regulatory.db")
        on_card = {path.name: path.read_text(errors="replace") for path in self.card.iterdir()}
        return Run(done.returncode, done.stdout + done.stderr, on_card)

    @property
    def conf(self) -> str:
        return (self.etc / "wifi.conf").read_text()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(needs_namespaces(tmp_path))


def test_the_network_is_taken_and_the_card_forgets_it(board: Board) -> None:
    done = board.boot(GOOD)
    assert (done.code, done.card) == (0, {}), done.said
    assert board.conf == (
        "ctrl_interface=/run/wpa_supplicant\nupdate_config=0\ncountry=GB\nnetwork={\n"
        f"ssid={b'Harbour Office'.hex()}\nscan_ssid=1\nkey_mgmt=WPA-PSK\npsk={KEY}\n}}\n"
    )
    assert stat.S_IMODE((board.etc / "wifi.conf").stat().st_mode) == 0o600
    assert [path.name for path in board.etc.iterdir()] == ["wifi.conf"]
    assert PHRASE not in done.said + board.conf


def test_a_boot_without_a_new_file_changes_nothing(board: Board) -> None:
    board.boot(GOOD)
    before = (board.etc / "wifi.conf").stat()
    assert board.boot(None) == Run(0, "", {})
    assert board.boot(GOOD).card == {}, "the same once more"
    after = (board.etc / "wifi.conf").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "nothing is written there"


@pytest.mark.parametrize(
    ("wifi", "why"),
    [
        (GOOD.replace("country", "land"), "land: no such key; there are country, network, passphrase"),
        (GOOD.replace('country = "GB"\n', ""), "country: is missing"),
        (GOOD.replace("GB", "UK"), "country: must be the ISO 3166 code of a country, two capitals, as in DE (Britain"),
        (GOOD.replace("GB", "gb"), "country: must be"),
        (
            'network = "x"\npassphrase = "short77"\ncountry = "DE"\n',
            "passphrase: has 7 characters; 8 to 63 are possible",
        ),
        ('network = "x"\npassphrase = "Stra\u00dfe im Hafen"\ncountry = "DE"\n', "passphrase: has a character"),
        ('network = "x"\npassphrase = 12345678\ncountry = "DE"\n', 'passphrase: must be a text in "quotation marks"'),
        (f'network = "{"x" * 33}"\npassphrase = ""\ncountry = "DE"\n', "network: has 33 bytes, 1 to 32 are possible"),
        ('network = "x\n', "is no TOML, line 1, column"),
        (GOOD.encode("utf-16"), "is not UTF-8"),
        (GOOD + "#" * 5000, "is larger than 4096 bytes"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why_on_the_card(board: Board, wifi: str | bytes, why: str) -> None:
    board.boot(OTHER)
    before = board.conf
    refused = board.boot(wifi)
    assert (refused.code, board.conf) == (1, before)
    assert sorted(refused.card) == ["skerry-wifi.error.txt", "skerry-wifi.toml"], "the file stays, to be corrected"
    assert refused.card["skerry-wifi.error.txt"].startswith(f"skerry-wifi.toml: {why}"), "beside the file"
    assert why in refused.said, "in the log"
    assert [path.name for path in board.etc.iterdir()] == ["wifi.conf"]
    again = board.boot(None)
    assert again == refused, "as long as it lies there"


@pytest.mark.parametrize("wifi", [GOOD.replace('"GB', "GB"), GOOD.replace("tides'", "tides"), GOOD.replace("'", '"')])
def test_what_is_said_of_a_bad_file_has_nothing_of_the_pass_phrase(board: Board, wifi: str) -> None:
    refused = board.boot(wifi)
    assert refused.code == 1
    said = refused.said + refused.card["skerry-wifi.error.txt"]
    assert [word for word in ("quay", "with", "tides") if word in said] == []


def test_a_corrected_file_is_taken_and_the_complaint_goes(board: Board) -> None:
    board.boot(GOOD)
    assert "skerry-wifi.error.txt" in board.boot(OTHER.replace("GB", "UK")).card
    mended = board.boot(OTHER)
    assert (mended.code, mended.card) == (0, {})
    assert f"ssid={b'Head Office'.hex()}\n" in board.conf


def test_the_complaint_goes_with_the_file_that_it_is_about(board: Board) -> None:
    assert board.boot(GOOD.replace("GB", "UK")).code == 1
    (board.card / "skerry-wifi.toml").unlink()
    assert board.boot(None) == Run(0, "", {})


def test_what_a_power_cut_left_of_a_file_that_was_taken_is_removed(board: Board) -> None:
    board.boot(GOOD)
    before = board.conf
    assert board.boot(bytes(len(GOOD))) == Run(0, "", {})
    assert board.conf == before


def test_open_networks_and_ready_made_keys(board: Board) -> None:
    board.boot('network = "Quay"\npassphrase = ""\ncountry = "DE"\n')
    assert "scan_ssid=1\nkey_mgmt=NONE\n}" in board.conf
    board.boot(f'network = "Quay"\npassphrase = "{"AB" * 32}"\ncountry = "DE"\n')
    assert f"key_mgmt=WPA-PSK\npsk={'ab' * 32}\n" in board.conf


def test_a_file_of_a_windows_editor_is_as_good(board: Board) -> None:
    done = board.boot(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert (done.code, done.card) == (0, {}), done.said
    assert f"psk={KEY}\n" in board.conf


def test_without_a_regulatory_database_any_two_capitals_are_a_country(board: Board) -> None:
    (board.folder / "regulatory.db").unlink()
    assert board.boot(GOOD.replace("GB", "UK")).code == 0


@pytest.mark.skipif(shutil.which("wpa_supplicant", path="/usr/sbin:/sbin") is None, reason="Debian: wpasupplicant")
def test_wpa_supplicant_itself_reads_what_is_written(board: Board) -> None:
    board.boot(GOOD)
    alone = [
        "unshare",
        "--map-root-user",
        "--net",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none /run && exec "$@"',
        "sh",
    ]
    argv = ["timeout", "5", "wpa_supplicant", "-dd", "-D", "none", "-i", "lo", "-c", str(board.etc / "wifi.conf")]
    said = subprocess.run([*alone, *argv], capture_output=True, text=True, check=False, timeout=60).stdout
    assert "ssid='Harbour Office'" in said
    assert "PSK - hexdump(len=32)" in said
    assert "country='GB'" in said
    assert re.findall(r"^Line \d+: .*", said, re.MULTILINE) == [], "complaints"
