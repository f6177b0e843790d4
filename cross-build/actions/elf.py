"""What an ELF file says of itself, as a value, from the text of GNU readelf (which reads every architecture)."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

MACHINES = {"AArch64": "aarch64", "ARM": "armv7l", "Advanced Micro Devices X86-64": "x86_64"}


@dataclass(frozen=True, slots=True)
class Elf:
    """`machine` in the words of a target; `float_abi` is "" where the machine has only one."""

    machine: str
    float_abi: str
    features: frozenset[str]
    glibc: tuple[int, ...]
    needed: frozenset[str]
    run_path: str
    stripped: bool


def is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def described(text: str) -> Elf:
    """From what `readelf -W -h -d -S -V -A` printed."""
    machine = _one(r"^\s*Machine:\s+(.+?)\s*$", text)
    newest = max((tuple(map(int, v.split("."))) for v in re.findall(r"\bGLIBC_(\d[\d.]*)", text)), default=(0,))
    return Elf(
        machine=MACHINES.get(machine, machine),
        float_abi=_float_abi(text) if machine == "ARM" else "",
        features=frozenset(_features(text)) if machine == "ARM" else frozenset(),
        glibc=newest,
        needed=frozenset(re.findall(r"\(NEEDED\).*\[(.*)\]", text)),
        run_path=_one(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]", text),
        stripped=re.search(r"\] \.(symtab|debug_\w+|zdebug_\w+)\s", text) is None,
    )


def read(path: Path, readelf: str = "readelf") -> Elf:
    """The facts of one file. Raises CalledProcessError for a file that readelf cannot read."""
    argv = [readelf, "-W", "-h", "-d", "-S", "-V", "-A", str(path)]
    done = subprocess.run(argv, env={**os.environ, "LC_ALL": "C"}, capture_output=True, check=True)
    return described(done.stdout.decode(errors="replace"))


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1) if found else ""


def _float_abi(text: str) -> str:
    """The header's flag is set by the linker, the attribute by the compiler: either says hard."""
    hard = "hard-float ABI" in text or "Tag_ABI_VFP_args: VFP registers" in text
    return "hard" if hard else "soft"


def _features(text: str) -> list[str]:
    """By the build attributes of the ARM ABI (ARM IHI 0045): what the code may use at run time."""
    cpu, fp = _one(r"Tag_CPU_arch: v(\d+)", text), _one(r"Tag_FP_arch: (\S+)", text)
    found = ["v8"] if cpu and int(cpu) >= 8 else []
    if "Tag_Advanced_SIMD_arch" in text:
        found.append("neon")
    if fp and not fp.startswith(("VFPv1", "VFPv2")) and not fp.endswith("D16"):
        found.append("d32")
    return found
