"""How base, architecture and board become one tree. Decides whose file wins, which is nobody's by accident.

A file that two layers write is refused with both paths, unless the upper one says `replaces`; one that says so and
replaces nothing is refused too, so that the list cannot rot. Knows names and kinds, never a file's content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from . import limits
from .refusal import Refusal

BOOT = "boot"  # what lies below boot/ goes to the boot partition
_PATH = re.compile(r"[A-Za-z0-9@_.+:\\-]+(/[A-Za-z0-9@_.+:\\-]+)*")
_FAT_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an overlay: `source` below the repository, `mode` 0o644 or 0o755, or `link`, where it points."""

    source: str
    bytes_count: int
    mode: int = 0o644
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """One overlay: target path → entry, and the paths that it may take from a layer below."""

    where: str
    entries: Mapping[str, Entry]
    replaces: tuple[str, ...] = ()


def merged(layers: Sequence[Layer]) -> dict[str, Entry]:
    """One tree from the layers, lowest first. Raises Refusal."""
    tree: dict[str, Entry] = {}
    for layer in layers:
        for path in layer.replaces:
            if path not in layer.entries:
                raise Refusal(layer.where, f"replaces {path}", "has no such file", "remove it from the list")
            if path not in tree:
                raise Refusal(layer.where, f"replaces {path}", "no layer below has it", "remove it from the list")
        for path, entry in layer.entries.items():
            _judge(path, entry)
            below = tree.get(path)
            if below is not None and path not in layer.replaces:
                cure = f"remove one, or name it in `replaces` of {layer.where}"
                raise Refusal(entry.source, path, f"{below.source} writes it too", cure)
            tree[path] = entry
    _no_file_is_a_folder(tree)
    return dict(sorted(tree.items()))


def boot_files(tree: Mapping[str, Entry]) -> dict[str, Entry]:
    """What belongs on the boot partition, by its path there. Raises Refusal for what FAT cannot hold."""
    found: dict[str, Entry] = {}
    for path, entry in tree.items():
        if not path.startswith(f"{BOOT}/"):
            continue
        name = path.removeprefix(f"{BOOT}/")
        if entry.link is not None or not all(_FAT_NAME.fullmatch(part) for part in name.split("/")):
            raise Refusal(entry.source, path, "FAT cannot hold it", "use a plain file with a plain name")
        found[name] = entry
    return found


def root_files(tree: Mapping[str, Entry]) -> dict[str, Entry]:
    return {path: entry for path, entry in tree.items() if not path.startswith(f"{BOOT}/")}


def links_of(tree: Mapping[str, Entry]) -> Iterable[str]:
    return (path for path, entry in tree.items() if entry.link is not None)


def _judge(path: str, entry: Entry) -> None:
    if not _PATH.fullmatch(path) or len(path) > limits.PATH_CHARS_MAX or ".." in path.split("/"):
        raise Refusal(entry.source, path, "is no path that an image may have", "use plain letters, no .. and no spaces")
    if entry.bytes_count > limits.FILE_BYTES_MAX:
        cure = "declare it in inputs.toml with its digest"
        raise Refusal(entry.source, path, f"has {entry.bytes_count} bytes, over {limits.FILE_BYTES_MAX}", cure)


def _no_file_is_a_folder(tree: Mapping[str, Entry]) -> None:
    for path, entry in tree.items():
        parts = path.split("/")
        for count in range(1, len(parts)):
            above = tree.get("/".join(parts[:count]))
            if above is not None:
                raise Refusal(entry.source, path, f"{above.source} is a file there", "rename one of them")
