"""Eviction: which entries of a cache go, by age and by size, and then the bytes that nothing needs any more.

The entries used last are kept first. What was written within the last hour stays: a build may be about to name it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crossbuild.limits import GC_GRACE_S


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry as eviction sees it: when it was last used (s since 1970), and the blobs that it names."""

    key: str
    used_at: float
    blobs: frozenset[str]


def survivors(
    entries: Iterable[Kept], sizes: Mapping[str, int], now: float, age_max_s: float, bytes_max: int
) -> set[str]:
    """The keys that stay: not older than `age_max_s`, the youngest first, while their blobs fit into `bytes_max`."""
    stay: set[str] = set()
    blobs: set[str] = set()
    for entry in sorted(entries, key=lambda e: (-e.used_at, e.key)):
        more = blobs | entry.blobs
        if now - entry.used_at <= age_max_s and sum(sizes.get(b, 0) for b in more) <= bytes_max:
            stay.add(entry.key)
            blobs = more
    return stay


def collect(cache: Path, now: float, age_max_s: float, bytes_max: int) -> tuple[int, int]:
    """Evict from the cache in folder `cache`. Returns how many files and bytes went."""
    entries = [_kept(file) for file in _files(cache / "ac")]
    sizes = {file.name: file.stat().st_size for file in _files(cache / "cas")}
    stay = survivors(entries, sizes, now, age_max_s, bytes_max)
    named = {blob for entry in entries if entry.key in stay for blob in entry.blobs}
    gone = [cache / "ac" / e.key for e in entries if e.key not in stay]
    # Bytes without an entry are pinned downloads: they stay while they are young and there is room.
    left = bytes_max - sum(sizes.get(blob, 0) for blob in named)
    for file in sorted((f for f in _files(cache / "cas") if f.name not in named), key=lambda f: -f.stat().st_mtime):
        age_s = now - file.stat().st_mtime
        of_an_evicted = any(file.name in e.blobs for e in entries)
        if age_s > GC_GRACE_S and (of_an_evicted or age_s > age_max_s or sizes[file.name] > left):
            gone.append(file)
        else:
            left -= sizes[file.name]
    bytes_gone = sum(file.stat().st_size for file in gone)
    for file in gone:
        file.unlink(missing_ok=True)
    for folder in ("trees", "tools", "tmp", "locks"):  # made again from the store, or left by a build that died
        for old in _inside(cache / folder):
            if now - old.lstat().st_mtime > max(GC_GRACE_S, age_max_s):
                shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    return len(gone), bytes_gone


def _kept(file: Path) -> Kept:
    try:
        blobs = frozenset(output["sha256"] for output in json.loads(file.read_text())["outputs"])
    except (ValueError, KeyError, TypeError):
        return Kept(file.name, 0.0, frozenset())  # unreadable: the oldest
    return Kept(file.name, file.stat().st_mtime, blobs)


def _files(folder: Path) -> list[Path]:
    return [file for file in _inside(folder) if file.is_file()]


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
