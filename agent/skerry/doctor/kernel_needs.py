"""What pods need of a kernel, and whether one has it: built in, loaded, or as a module that lies beside it.

Sources in this order: what runs (/sys/module, /proc/filesystems), the kernel's configuration, its modules' indices.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

from skerry.doctor.decide import Answer

Part = tuple[str, str]  # option without CONFIG_, module


@dataclass(frozen=True, slots=True)
class Need:
    """`parts`: any one of them is enough."""

    what: str
    parts: tuple[Part, ...]


NEEDS = (
    Need("overlayfs", (("OVERLAY_FS", "overlay"),)),
    Need("veth pairs", (("VETH", "veth"),)),
    Need("bridges", (("BRIDGE", "bridge"),)),
    Need("a packet filter", (("NF_TABLES", "nf_tables"), ("IP_NF_IPTABLES", "ip_tables"))),
    Need("address translation", (("NF_NAT", "nf_nat"),)),
    Need(
        "masquerading",
        (
            ("NETFILTER_XT_TARGET_MASQUERADE", "xt_MASQUERADE"),
            ("IP_NF_TARGET_MASQUERADE", "ipt_MASQUERADE"),
            ("NFT_MASQ", "nft_masq"),
        ),
    ),
    Need("address types of packets", (("NETFILTER_XT_MATCH_ADDRTYPE", "xt_addrtype"),)),
    Need("comments on rules", (("NETFILTER_XT_MATCH_COMMENT", "xt_comment"),)),
)


def needs(root: Path, release: str) -> dict[str, Answer]:
    """An answer for each of NEEDS."""
    config, running = _config(root, release), _running(root)
    built_in, modules = _index(root, release, "modules.builtin"), _index(root, release, "modules.dep")
    out = {}
    for need in NEEDS:
        found = {_has(part, config, running, built_in, modules) for part in need.parts}
        best = (a for a in (Answer.YES, Answer.UNKNOWN) if a in found)
        out[need.what] = next(best, Answer.NO)
    return out


def _has(
    part: Part, config: dict[str, str] | None, running: set[str], built_in: set[str] | None, modules: set[str] | None
) -> Answer:
    option, module = part[0], part[1].lower()
    if module in running or (built_in is not None and module in built_in):
        return Answer.YES
    if config is not None:
        value = config.get(option, "n")
        if value != "m":
            return Answer.YES if value == "y" else Answer.NO
    if modules is None:
        return Answer.NO if config is not None else Answer.UNKNOWN  # a module, and there are no modules
    return Answer.YES if module in modules else Answer.NO


def _running(root: Path) -> set[str]:
    try:
        loaded = {path.name.lower() for path in (root / "sys/module").iterdir()}
    except OSError:
        loaded = set()
    return loaded | {line.split()[-1] for line in (_text(root / "proc/filesystems") or "").splitlines() if line.strip()}


def _config(root: Path, release: str) -> dict[str, str] | None:
    for place in ("proc/config.gz", f"boot/config-{release}", f"lib/modules/{release}/config"):
        text = _text(root / place)
        if text:
            pairs = (line.removeprefix("CONFIG_").partition("=") for line in text.splitlines() if "=" in line)
            return {name: value for name, _, value in pairs}
    return None


def _index(root: Path, release: str, name: str) -> set[str] | None:
    """Modules of an index of depmod(8), by their names; None without the index."""
    text = _text(root / f"lib/modules/{release}" / name)
    if text is None:
        return None
    paths = (line.partition(":")[0] for line in text.splitlines())
    return {path.rpartition("/")[2].partition(".ko")[0].replace("-", "_").lower() for path in paths}


def _text(path: Path) -> str | None:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode(errors="replace")
    except (OSError, EOFError, gzip.BadGzipFile):
        return None
