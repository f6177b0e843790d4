"""The board's own script that takes the join file from the boot partition, on real files and a real mount, in
namespaces of its own: its mounts and the host name that it sets are seen nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from image.read import ROOT

from .boot_partition import boot, needs_namespaces

SCRIPT = ROOT / "firmware-configs/base/overlay/usr/lib/skerry-board/join"
GOOD = 'node = "edge-1"\nbroker = "mqtt://127.0.0.1:1883"\n'
OTHER = 'node = "edge-2"\nbroker = "mqtt://127.0.0.1:1884"\n'
BAD = 'node = "edge-2"\nbroker = "http://127.0.0.1"\n'


@dataclass(frozen=True, slots=True)
class Run:
    code: int
    host_name: str
    said: str
    error: str | None  # what stands beside the join file


class Board:
    """A boot partition and a folder of skerry's configuration, kept from boot to boot."""

    def __init__(self, folder: Path) -> None:
        self.card, self.etc, self.folder = folder / "card", folder / "etc", folder
        for path in (self.card, self.etc):
            path.mkdir()

    def boot(self, join: str | None) -> Run:
        if join is not None:
            (self.card / "skerry-join.toml").write_text(join)
        done = boot(self.card, self.folder, SCRIPT, self.etc, ROOT / "agent", after="hostname")
        error = self.card / "skerry-join.error.txt"
        name = done.stdout.splitlines()[-1]
        return Run(done.returncode, name, done.stdout + done.stderr, error.read_text() if error.exists() else None)

    @property
    def config(self) -> str:
        return (self.etc / "config.toml").read_text()


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(needs_namespaces(tmp_path))


def test_a_join_file_is_taken_over_once(board: Board) -> None:
    first = board.boot(GOOD)
    assert (first.code, first.host_name, first.error) == (0, "edge-1", None)
    assert board.config == GOOD
    (board.etc / "config.toml").write_text(OTHER)  # changed by hand, later
    assert board.boot(None).host_name == "edge-2"
    assert board.config == OTHER


@pytest.mark.parametrize(
    ("join", "why"),
    [
        (BAD, "broker: must be mqtt://HOST:PORT"),
        ('node = "edge-2\n', "line 1"),
        ('node = "edge-2"\nbrokr = "mqtt://127.0.0.1:1883"\n', "brokr: no such key"),
        ("x" * 70_000, "skerry-join.toml: is larger than"),
    ],
)
def test_a_bad_join_file_changes_nothing_and_says_why_on_the_card(board: Board, join: str, why: str) -> None:
    board.boot(GOOD)
    refused = board.boot(join)
    assert (refused.code, refused.host_name, board.config) == (1, "edge-1", GOOD)
    assert why in refused.said, "in the log"
    assert why in (refused.error or ""), "beside the join file"
    assert sorted(path.name for path in board.etc.iterdir()) == ["config.toml", "joined.toml"]


def test_a_corrected_join_file_is_taken_and_the_complaint_goes(board: Board) -> None:
    board.boot(GOOD)
    assert board.boot(BAD).error is not None
    mended = board.boot(OTHER)
    assert (mended.code, mended.host_name, mended.error, board.config) == (0, "edge-2", None, OTHER)


def test_a_bad_first_join_file_leaves_the_packaged_configuration(board: Board) -> None:
    packaged = (ROOT / "agent/packaging/config.toml").read_text()
    (board.etc / "config.toml").write_text(packaged)
    refused = board.boot(BAD)
    assert (refused.code, board.config) == (1, packaged)
