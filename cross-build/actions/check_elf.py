"""The gate after every build: no ELF file in a tree that its target could not load.

    check_elf.py --target TARGET.toml --tree DIR [--out REPORT.json]

Checks machine, float ABI, CPU features, newest glibc symbol, run path, stripping, and the Python in the file's name.
AArch64 and x86-64 files do not record the CPU features that they use; there the compiler's -mcpu is what holds.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from elf import Elf, is_elf, read
from refusal import Refusal, Refusals, entry
from target import Target
from target import read as read_target


def judged(name: str, elf: Elf, target: Target) -> list[Refusal]:
    """What is wrong with a file of this name for this target."""
    wrong = []
    if elf.machine != target.arch:
        return [Refusal(name, "machine", elf.machine, target.arch)]
    if elf.float_abi and elf.float_abi != target.float_abi:
        wrong.append(Refusal(name, "float ABI", elf.float_abi, target.float_abi))
    forbidden = ", ".join(target.features_forbidden)
    features = sorted(elf.features & set(target.features_forbidden))
    wrong += [Refusal(name, "CPU feature", feature, f"none of {forbidden}") for feature in features]
    if elf.glibc > target.glibc:
        newest = ".".join(map(str, elf.glibc))
        wrong.append(Refusal(name, "glibc", f"GLIBC_{newest}", f"{target.glibc_max} or older"))
    if elf.run_path:
        wrong.append(Refusal(name, "run path", elf.run_path, "none"))
    if not elf.stripped:
        wrong.append(Refusal(name, "symbols", "a symbol table or debug sections", "a stripped file"))
    made_for = re.search(r"\.cpython-3(\d+)-", name)
    if made_for and int(made_for.group(1)) != target.python_minor:
        wrong.append(Refusal(name, "Python", f"3.{made_for.group(1)}", target.python))
    return wrong


def checked(tree: Path, target: Target) -> dict[str, Elf]:
    """Each ELF file below `tree` by its path there. Raises Refusals for all files that do not fit."""
    found: dict[str, Elf] = {}
    wrong: list[Refusal] = []
    for path in sorted(tree.rglob("*")):
        if is_elf(path):
            name, elf = str(path.relative_to(tree)), read(path)
            wrong += judged(name, elf, target)
            found[name] = elf
    if wrong:
        raise Refusals(wrong)
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--target", type=Path, required=True)
    words.add_argument("--tree", type=Path, required=True)
    words.add_argument("--out", type=Path, help="where the list of files goes, as JSON")
    args = words.parse_args()
    if not args.tree.is_dir():
        raise Refusal(str(args.tree), "--tree", "no folder", "a folder")
    found = checked(args.tree, read_target(args.target))
    if args.out:
        newest = {name: ".".join(map(str, elf.glibc)) for name, elf in found.items()}
        report = {"target": args.target.stem, "newest_glibc_symbol": newest}
        args.out.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    print(f"{len(found)} ELF files fit {args.target.stem}")


if __name__ == "__main__":
    entry(main)
