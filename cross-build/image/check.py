"""What `make boards` says of each board: everything that can be known without building its image."""

from __future__ import annotations

import os
from pathlib import Path

from . import kernel, layers, layout
from .lock import Pinned, chosen
from .manifest import Board
from .read import CACHE, Tree
from .refusal import Refusal
from .tool import run

# The build engine's store of this machine: where a kernel lies that was fetched for a build.
STORE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skerry-builds"


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
    inputs = tree.inputs(board)
    if board.kernel_package is None and board.kernel.partition(":")[2] not in {i.name for i in inputs}:
        raise Refusal(board.where, "kernel", f"{board.kernel} is not declared", "declare it in inputs.toml beside")
    pins = packages(tree, board) if board.boot != "l4t" else []
    config = kernel_config(pins)
    if config is not None:
        lacking = kernel.lacking(options, config)
        if lacking:
            raise Refusal(board.where, "kernel", "; ".join(lacking), "take another kernel or drop what needs them")
    if board.boot != "l4t":
        _has_unit(tree, board)
    seen = f"{len(options)} kernel options" + (" checked" if config is not None else " (kernel not fetched)")
    outside = f", {len(inputs)} outside input(s)" if inputs else ""
    return (
        f"{board.short}: {len(files)} files, {plan.end // layout.MIB} of {board.medium_mb} MiB, "
        f"{left} of {board.memory_mb} MiB for pods, {len(pins)} packages, {seen}{outside}"
    )


def packages(tree: Tree, board: Board) -> list[Pinned]:
    """All that is locked for this board: what its target configures, and what it unpacks. Raises Refusal."""
    where, configured = tree.locked(board)
    chosen(where, configured, tree.packages(board))
    where, unpacked = tree.locked(board, unpacked=True)
    return [*configured, *chosen(where, unpacked, board.unpack)]


def kernel_config(pins: list[Pinned]) -> str | None:
    """The kernel's configuration, from whichever of its packages has it; None when that was not fetched."""
    for pin in pins:
        deb, kept = STORE / "cas" / pin.sha256, CACHE / "kernel-config" / pin.sha256
        if not pin.name.startswith(("linux-image-", "linux-base-")):
            continue
        if not kept.is_file() and deb.is_file():
            tar = 'dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards "./boot/config-*" "./usr/lib/modules/*/config"'
            text = run(["bash", "-c", f"{tar} || true", "bash", deb])
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(text)
        if kept.is_file() and (text := kept.read_text()):
            return text
    return None


def _has_unit(tree: Tree, board: Board) -> None:
    """The build engine finds a board by a file among its targets."""
    path, line = tree.unit_target(board), f'target = "{board.target}"\n'
    if not path.is_file() or path.read_text() != line:
        where = f"firmware-configs/targets/{path.name}"
        raise Refusal(where, "target", f"is not as {board.where} says", f"write one line: {line.strip()}")
