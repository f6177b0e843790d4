"""What a card depends on, by a device tree: small ones that are made here as the devicetree specification says."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import pytest

from image.devicetree import drivers, lacking
from image.refusal import ToolFailed

ALIASES = """# Aliases extracted from modules themselves.
alias of:N*T*Cacme,cardC* acme_card
alias of:N*T*Cacme,card acme_card
alias of:N*T*Cregulator-fixed fixed
alias of:N*T*Cacme,gpioC* gpio_acme
alias platform:acme acme_card
"""
KNOWN = drivers(ALIASES)
CARD, FEED, GPIO = "mmc@1", "sd_vcc_reg", "gpio@2"


@dataclass
class Made:
    """A node; numbers of a property are cells."""

    name: str
    properties: dict[str, str | list[int]]
    below: list[Made] = field(default_factory=list)

    def bytes(self, names: bytearray) -> bytes:
        out = struct.pack(">I", 1) + _padded(self.name.encode() + b"\0")
        for name, value in self.properties.items():
            data = value.encode() + b"\0" if isinstance(value, str) else struct.pack(f">{len(value)}I", *value)
            out += struct.pack(">3I", 3, len(data), len(names)) + _padded(data)
            names += name.encode() + b"\0"
        return out + b"".join(node.bytes(names) for node in self.below) + struct.pack(">I", 2)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def tree(*nodes: Made) -> bytes:
    names = bytearray()
    body = Made("", {}, list(nodes)).bytes(names) + struct.pack(">I", 9)
    return struct.pack(">10I", 0xD00DFEED, 0, 40, 40 + len(body), 0, 17, 16, 0, len(names), len(body)) + body + names


def card(**more: str | list[int]) -> Made:
    return Made(CARD, {"compatible": "acme,card", **{name.replace("_", "-"): said for name, said in more.items()}})


FED = Made(FEED, {"compatible": "regulator-fixed", "phandle": [7]})
SWITCHED = Made(FEED, {"compatible": "regulator-fixed", "phandle": [7], "gpio": [9, 4, 0]})
PINS = Made(GPIO, {"compatible": "acme,gpio", "phandle": [9], "#gpio-cells": [2]}, [Made("pins", {"phandle": [10]})])


def test_a_supply_whose_driver_is_not_there_is_named() -> None:
    said = lacking(tree(card(vmmc_supply=[7]), FED), KNOWN, ["acme-card"])
    assert said == ["mmc@1: vmmc-supply is sd_vcc_reg, driven by fixed"]


def test_nothing_lacks_when_the_initrd_has_it() -> None:
    assert lacking(tree(card(vmmc_supply=[7]), FED), KNOWN, ["acme-card", "fixed"]) == []


def test_what_a_supply_depends_on_is_looked_at_too() -> None:
    said = lacking(tree(card(vmmc_supply=[7]), SWITCHED, PINS), KNOWN, ["acme-card", "fixed"])
    assert said == ["sd_vcc_reg: gpio is gpio@2, driven by gpio_acme"]


def test_of_several_references_each_is_followed_past_its_cells() -> None:
    """The second and third cell of a GPIO are a number and flags, which may look like another node's handle."""
    made = tree(card(cd_gpios=[9, 7, 7, 9, 1, 0]), FED, PINS)
    assert lacking(made, KNOWN, ["acme-card", "gpio-acme"]) == []


def test_of_a_part_of_a_device_the_device_is_meant() -> None:
    said = lacking(tree(card(pinctrl_0=[10]), PINS), KNOWN, ["acme-card"])
    assert said == ["mmc@1: pinctrl-0 is gpio@2, driven by gpio_acme"]


@pytest.mark.parametrize(
    "nodes",
    [
        [card(vmmc_supply=[7], status="disabled"), FED],  # a card that is not fitted
        [card(vmmc_supply=[8]), Made("builtin", {"compatible": "acme,builtin", "phandle": [8]})],
        [Made("other", {"compatible": "acme,other", "vmmc-supply": [7]}), FED],  # nothing that the initrd drives
        [card(vmmc_supply=[77])],  # a handle that nobody has
    ],
)
def test_no_module_is_asked_for_without_need(nodes: list[Made]) -> None:
    assert lacking(tree(*nodes), KNOWN, ["acme-card"]) == []


@pytest.mark.parametrize("cut", [0, 30, 60, 100])
def test_half_a_device_tree_is_none(cut: int) -> None:
    with pytest.raises(ToolFailed, match="device tree"):
        lacking(tree(card(vmmc_supply=[7]), FED)[:cut], KNOWN, ["acme-card"])


def test_other_bytes_are_no_device_tree() -> None:
    with pytest.raises(ToolFailed, match="no device tree"):
        lacking(bytes(64), KNOWN, [])
