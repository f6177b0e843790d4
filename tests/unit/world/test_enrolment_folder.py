"""Where enrolment puts keys: nowhere that another may read or write, whatever he left there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.enrolling import NODE, Hub
from skerry.errors import EnrolmentFailed
from skerry.identity import IDENTITY, PENDING
from skerry.world.device_key import KeysInFiles
from skerry.world.enrolment import enrol
from unit.world.test_enrolment import files, folder, hub, openssl

__all__ = ["folder", "hub"]  # fixtures
pytestmark = openssl


def test_a_folder_that_others_may_write_to_gets_no_key(hub: Hub, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o1777)
    with pytest.raises(EnrolmentFailed, match="others may write to it"):
        enrol(folder, hub.token, KeysInFiles())
    assert files(folder) == []
    assert hub.connections == 0


def test_a_file_or_link_in_the_place_of_a_new_one_is_neither_written_nor_followed(hub: Hub, folder: Path) -> None:
    """As whoever could once write to the folder left it: he has it open, and would read the keys."""
    folder.mkdir(mode=0o700)
    his = folder.parent / "his"
    his.write_text("")
    (folder / f".{IDENTITY}.new").symlink_to(his)
    (folder / f".{PENDING}.new").write_text("")
    with (folder / f".{PENDING}.new").open("rb") as open_before:
        assert enrol(folder, hub.token, KeysInFiles()).issued.node == NODE
        assert open_before.read() == b""
    assert his.read_text() == ""
    assert files(folder) == [IDENTITY]
