"""Logs go with their container, and nothing else goes."""

from __future__ import annotations

from pathlib import Path

from skerry.containerd import logs


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
