"""Where a hub keeps its keys: nobody else may put anything there, and a folder that is there is left as it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from skerry_hub import folders


def test_a_new_one_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "hub"
    folders.private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folders.private(folder)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_one_that_others_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    """Such as /tmp, by mistake: nobody else could use it any more."""
    folder = tmp_path / "hub"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(folders.FolderError, match="others may write to it"):
        folders.private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == mode


def test_one_that_others_may_only_read_is_good(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    for mode in (0o755, 0o775):  # by a umask of 002 a group's, which is ours
        folder.chmod(mode)
        folders.private(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_one_of_another_user_or_a_strange_groups_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    os.chown(folder, 65_534, -1)
    with pytest.raises(folders.FolderError, match="belongs to another user"):
        folders.private(folder)
    os.chown(folder, 0, 64_321)
    folder.chmod(0o770)
    with pytest.raises(folders.FolderError, match="others may write to it"):
        folders.private(folder)


def test_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("")
    for folder in (tmp_path / "hub", tmp_path / "hub" / "below"):
        with pytest.raises(folders.FolderError):
            folders.private(folder)
