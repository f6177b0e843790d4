"""The board's own script that takes the enrolment token from the boot partition, on real files and a real mount."""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from pathlib import Path

import cbor2
import pytest

from contract.certificates import authority, digest, enrolled
from image.read import ROOT
from skerry import identity
from skerry.wire.token import Token, encode

from .boot_partition import boot, needs_namespaces

SCRIPT = ROOT / "firmware-configs/base/overlay/usr/lib/skerry-board/token"
CA = authority()
TOKEN = Token("https://hub.example:8443", digest(CA), "edge-1", "abcdef", bytes(range(16)))
LINE = encode(TOKEN)


@dataclass(frozen=True, slots=True)
class Run:
    code: int
    host_name: str
    said: str
    card: dict[str, str]


class Board:
    """A boot partition, skerry's configuration and its data, kept from boot to boot."""

    def __init__(self, folder: Path) -> None:
        self.card, self.etc, self.data, self.folder = (folder / n for n in ("card", "etc", "data", "x"))
        self.code = folder / "code"
        for path in (self.card, self.etc, self.folder, self.code, self.code / "lib"):
            path.mkdir()
        for name, place in (("skerry", "agent"), ("skerry_native", "native")):
            (self.code / name).symlink_to(ROOT / place / name)
        (self.code / "lib/cbor2").symlink_to(Path(cbor2.__file__).parent)
        self.config()

    def config(self, more: str = "") -> None:
        (self.etc / "config.toml").write_text(f'{more}data_dir = "{self.data}"\n')

    def boot(self, token: str | bytes | None = None) -> Run:
        if token is not None:
            (self.card / "skerry-token.txt").write_bytes(token.encode() if isinstance(token, str) else token)
        done = boot(self.card, self.folder, SCRIPT, self.etc, self.code, after="hostname")
        card = {path.name: path.read_text(errors="replace") for path in self.card.iterdir()}
        assert LINE[20:60] not in done.stdout + done.stderr
        return Run(done.returncode, done.stdout.splitlines()[-1], done.stdout + done.stderr, card)

    @property
    def token(self) -> str | None:
        path = self.data / "token"
        return path.read_text() if path.exists() else None


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(needs_namespaces(tmp_path))


def test_a_token_moves_from_the_card_to_the_data_partition(board: Board) -> None:
    taken = board.boot(f"{LINE}\r\n")
    assert (taken.code, taken.host_name, taken.card) == (0, "edge-1", {})
    assert "taken: token abcdef: node edge-1, hub https://hub.example:8443" in taken.said
    assert (board.token or "").strip() == LINE
    assert stat.S_IMODE((board.data / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(board.data.stat().st_mode) == 0o700
    assert board.boot().host_name == "edge-1", "until it is enrolled"


def test_the_name_stays_once_the_token_is_used(board: Board) -> None:
    board.boot(LINE)
    identity.write(board.data, enrolled(CA, "edge-1"))
    (board.data / "token").unlink()
    assert board.boot().host_name == "edge-1"


def test_a_name_in_the_configuration_is_left_to_the_join(board: Board) -> None:
    before = board.boot().host_name
    board.config('node = "edge-1"\n')
    assert board.boot(LINE).host_name == before


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (LINE[:-7], "the token was cut short or mistyped: copy the whole line"),
        ("hello", "this is no token of skerry"),
        (b"\xff\xfe" + LINE.encode("utf-16-le"), "this is no token of skerry"),
        ("x" * 70_000, "this is no token of skerry"),
    ],
    ids=["cut", "word", "utf-16", "large"],
)
def test_a_bad_token_changes_nothing_and_says_why_on_the_card(board: Board, token: str | bytes, why: str) -> None:
    refused = board.boot(token)
    assert (refused.code, board.token) == (1, None)
    assert why in refused.said, "in the log"
    assert why in refused.card["skerry-token.error.txt"], "beside the token"
    assert "skerry-token.txt" in refused.card
    mended = board.boot(LINE)
    assert (mended.code, mended.card) == (0, {})
    assert board.token is not None


def test_a_token_that_this_device_may_not_use_is_refused(board: Board) -> None:
    board.config('node = "pi"\n')
    assert "this device's configuration says pi" in board.boot(LINE).card["skerry-token.error.txt"]
    board.config()
    board.data.mkdir(mode=0o700)
    identity.write(board.data, enrolled(CA, "edge-2"))
    assert "this device is edge-2" in board.boot(LINE).card["skerry-token.error.txt"]
    assert board.boot(encode(replace(TOKEN, node="edge-2"))).code == 0


def test_a_new_token_takes_the_place_of_one_that_waits(board: Board) -> None:
    board.boot(LINE)
    newer = encode(replace(TOKEN, ident="newer1"))
    assert board.boot(newer).code == 0
    assert board.token == newer


def test_what_a_power_cut_left_of_a_taken_token_goes(board: Board) -> None:
    again = board.boot(bytes(len(LINE)))
    assert (again.code, again.card, board.token) == (0, {}, None)


def test_without_a_token_nothing_happens(board: Board) -> None:
    quiet = board.boot()
    assert (quiet.code, quiet.card) == (0, {})
    assert not board.data.exists()
