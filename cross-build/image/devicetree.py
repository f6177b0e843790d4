"""Whether the initrd has a driver for all that a board's card depends on, as its device tree says. Opens no file.

A card whose supply has no driver yet never shows up, and neither does the root. What is looked at are the devices whose
drivers the initrd brings, what they refer to (REFERENCES), and so on. A driver that is built into the kernel is no
module and is not known here: nothing is lacking for it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from .refusal import ToolFailed

# A property that refers to other nodes → the property in which such a node says how many cells follow the reference.
REFERENCES = {
    "clocks": "#clock-cells", "resets": "#reset-cells", "power-domains": "#power-domain-cells",
    "gpio": "#gpio-cells", "gpios": "#gpio-cells", "mmc-pwrseq": "", "pinctrl-0": "",
}  # fmt: skip
_ALIAS = re.compile(r"^alias of:N\*T\*C([^*\s]+?)(?:C\*)? (\S+)$", re.MULTILINE)
_MAGIC, _BEGIN, _END, _PROPERTY, _NOP = 0xD00DFEED, 1, 2, 3, 4


@dataclass(slots=True)
class Node:
    """A node of a device tree. `compatible` are the names by which drivers find it; a disabled one has none."""

    name: str
    above: Node | None
    properties: dict[str, bytes] = field(default_factory=dict)

    @property
    def compatible(self) -> list[str]:
        if self.properties.get("status", b"okay\0") not in (b"okay\0", b"ok\0"):
            return []
        return [name.decode() for name in self.properties.get("compatible", b"").split(b"\0") if name]


def drivers(aliases: str) -> dict[str, set[str]]:
    """From modules.alias: what a node calls itself → the modules that drive it."""
    found: dict[str, set[str]] = {}
    for name, module in _ALIAS.findall(aliases):
        found.setdefault(name, set()).add(_plain(module))
    return found


def lacking(tree: bytes, known: Mapping[str, set[str]], loaded: Collection[str]) -> list[str]:
    """A line for each node that what the modules `loaded` drive refers to, and that only other modules drive.

    Raises ToolFailed for bytes that are no device tree (version 17).
    """
    nodes = _nodes(tree)
    by_handle = {node.properties["phandle"]: node for node in nodes if "phandle" in node.properties}
    have = {_plain(name) for name in loaded}
    todo = [node for node in nodes if _modules(node, known) & have]
    seen, lines = {id(node) for node in todo}, []
    while todo:
        node = todo.pop()
        for name, target in _referred(node, by_handle):
            if id(target) in seen:
                continue
            seen.add(id(target))
            todo.append(target)
            need = _modules(target, known)
            if need and not need & have:
                lines.append(f"{node.name}: {name} is {target.name}, driven by {', '.join(sorted(need))}")
    return sorted(lines)


def _referred(node: Node, by_handle: Mapping[bytes, Node]) -> Iterator[tuple[str, Node]]:
    """The nodes with a driver that `node` refers to: of a part of a device, the device."""
    for name, value in node.properties.items():
        cells_in = (
            "#gpio-cells" if name.endswith("-gpios") else "" if name.endswith("-supply") else REFERENCES.get(name)
        )
        at = 0
        while cells_in is not None and at + 4 <= len(value):
            target = by_handle.get(value[at : at + 4])
            cells = target.properties.get(cells_in, b"") if target is not None else b""
            at += 4 + 4 * int.from_bytes(cells, "big")
            while target is not None and not target.compatible:
                target = target.above
            if target is not None:
                yield name, target


def _modules(node: Node, known: Mapping[str, set[str]]) -> set[str]:
    return {module for name in node.compatible for module in known.get(name, ())}


def _plain(module: str) -> str:
    return module.replace("-", "_")


def _nodes(tree: bytes) -> list[Node]:
    """The nodes of a flattened device tree (devicetree specification, section 5), each with all its properties."""
    try:
        magic, _, at, strings = struct.unpack_from(">4I", tree)
        if magic != _MAGIC:
            raise ToolFailed("this is no device tree")
        node: Node | None = None
        made: list[Node] = []
        while True:
            (token,) = struct.unpack_from(">I", tree, at)
            at += 4
            if token == _BEGIN:
                end = tree.index(b"\0", at)
                node = Node(tree[at:end].decode(), node)
                made.append(node)
                at = (end + 4) & ~3
            elif token == _PROPERTY and node is not None:
                length, name_at = struct.unpack_from(">2I", tree, at)
                name = tree[strings + name_at : tree.index(b"\0", strings + name_at)].decode()
                node.properties[name] = tree[at + 8 : at + 8 + length]
                at = (at + 8 + length + 3) & ~3
            elif token == _END and node is not None:
                node = node.above
            elif token != _NOP:
                return made
    except (struct.error, ValueError) as why:
        raise ToolFailed(f"a device tree ends before it is whole: {why}") from None
