"""What `make boards` says of each board: everything that can be known without building its image."""

from __future__ import annotations

from pathlib import Path

from . import debs, kernel, layers, layout
from .lock import Pinned, chosen
from .manifest import Board
from .read import CACHE, Tree
from .refusal import Refusal
from .tool import run


def all_boards(tree: Tree) -> list[str]:
    """One line for each board. Raises Refusal for the first that is wrong."""
    return [one(tree, board) for board in tree.boards()]


def one(tree: Tree, board: Board) -> str:
    """Layers, sizes, memory, locks, and the kernel's options when its package has been fetched. Raises Refusal."""
    files = tree.files(board)
    layers.boot_files(files)
    plan = layout.layout(board)
    left = layout.pods_mb(board)
    options = tree.options(board)
    pins = packages(tree, board)
    inputs = tree.inputs(board)
    if board.kernel_package is None and board.kernel.partition(":")[2] not in {i.name for i in inputs}:
        raise Refusal(board.where, "kernel", f"{board.kernel} is not declared", "declare it in inputs.toml beside")
    config = kernel_config(board, pins)
    if config is not None:
        lacking = kernel.lacking(options, config)
        if lacking:
            raise Refusal(board.where, "kernel", "; ".join(lacking), "take another kernel or drop what needs them")
    seen = f"{len(options)} kernel options" + (" checked" if config is not None else " (kernel not fetched)")
    outside = f", {len(inputs)} outside input(s)" if inputs else ""
    return (
        f"{board.short}: {len(files)} files, {plan.end // layout.MIB} of {board.medium_mb} MiB, "
        f"{left} of {board.memory_mb} MiB for pods, {len(pins)} packages, {seen}{outside}"
    )


def packages(tree: Tree, board: Board) -> list[Pinned]:
    """All that is locked for this board: what it installs, and what it unpacks. Raises Refusal."""
    where, pins = tree.locked(board)
    chosen(where, pins, "install", tree.packages(board))
    names = [*board.unpacked, *([board.kernel_package] if board.kernel_package else [])]
    return [*(p for p in pins if p.use == "install"), *chosen(where, pins, "unpack", names)]


def kernel_config(board: Board, pins: list[Pinned]) -> str | None:
    """The kernel's /boot/config, from its package in .cache/debs/; None when that was not fetched."""
    pin = next((p for p in pins if p.use == "unpack" and p.name == board.kernel_package), None)
    if pin is None or not debs.path_of(pin).is_file():
        return None
    kept: Path = CACHE / "kernel-config" / pin.sha256
    if not kept.is_file():
        tar = 'dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards "./boot/config-*"'
        text = run(["bash", "-c", f"set -o pipefail; {tar}", "bash", debs.path_of(pin)])
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(text)
    return kept.read_text()
