"""Logs go with their container, and nothing else goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry.containerd import logs
from skerry.errors import RuntimeFailed


def test_the_last_log_takes_the_folders_along(tmp_path: Path) -> None:
    root = tmp_path / "pods"
    logs.make_folder(root / "default_web_u" / "main")
    logs.make_folder(root / "default_web_u" / "main")
    for name in ("0.log", "0.log.20261124-190500", "1.log"):
        (root / "default_web_u" / "main" / name).touch()
    logs.remove(root, root / "default_web_u" / "main" / "0.log")
    assert [p.name for p in (root / "default_web_u" / "main").iterdir()] == ["1.log"]
    logs.remove(root, root / "default_web_u" / "main" / "1.log")
    logs.remove(root, root / "default_web_u" / "main" / "1.log")
    assert list(root.iterdir()) == []


def test_a_path_outside_is_left_alone(tmp_path: Path) -> None:
    root, outside = tmp_path / "pods", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
    (outside / "x.log").touch()
    for path in (outside / "x.log", root / ".." / "outside" / "x.log", Path("x.log"), root):
        logs.remove(root, path)
    assert (outside / "x.log").exists()
    assert root.exists()


def test_the_files_of_a_log_are_those_with_its_numbers(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    for name, size in (("0.log", 3), ("0.log.1", 5), ("0.log.2", 7), ("0.log.02", 9), ("0.log.gz", 9), ("0.logs", 9)):
        (tmp_path / name).write_bytes(b"x" * size)
    assert logs.sizes(log) == {0: 3, 1: 5, 2: 7}
    logs.rename(log, 0, 1)
    logs.delete(log, 2)
    logs.delete(log, 2)
    assert logs.sizes(log) == {1: 3}
    assert logs.sizes(tmp_path / "no/such/0.log") == {}


def test_a_rename_that_fails_says_of_what(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match=r"RenameLog: INTERNAL: .*0\.log\.4: No such file"):
        logs.rename(tmp_path / "0.log", 4, 5)
