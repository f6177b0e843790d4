"""A package on an emulated board: its tree is imported whole, its commands start, the native modules pass their tests.

    emulated.py --target TARGET.toml --deb DIR --sysroot DIR [--check DIR] --out REPORT

Runs in the sandbox of a unit (tests/build.toml), from the folder of the tests. User-mode QEMU with the target's own
Python and libraries, pytest and hypothesis from the wheels in `--check`, without which the tests are left out: it
shows function, never speed. Ubuntu's Python 3.10 for ARM is in no Debian suite; that target's package is only checked
by check_elf.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bytecode import emulated
from refusal import Refusal, entry
from target import read as read_target

# Each module of ours, each library by the name under which we use it, and that the compiled ones are the compiled ones.
IMPORTS = """
import importlib, pkgutil, sys
home = sys.argv[1]
sys.path[:0] = [home, home + "/lib"]
import cbor2, google.protobuf, grpclib.client, lmdb, paho.mqtt.client, uvloop
from google.protobuf.internal import api_implementation
ours = [p.name for p in pkgutil.iter_modules([home]) if p.name.startswith("skerry")]
names = list(ours)
for package in map(importlib.import_module, ours):
    names += [m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
foreign = [m.__file__ for m in sys.modules.values() if "-packages" in (getattr(m, "__file__", None) or "")]
assert not foreign, foreign
import skerry_native
fast = [name for name in names if name.startswith("skerry_native.") and skerry_native.compiled(sys.modules[name])]
assert fast, "no compiled module"
env = lmdb.open(sys.argv[2], map_size=1 << 20)
with env.begin(write=True) as t: t.put(b"k", cbor2.dumps({1: "x"}))
with env.begin() as t: assert cbor2.loads(t.get(b"k")) == {1: "x"}
uvloop.run(__import__("asyncio").sleep(0))
print(len(names), "modules,", len(fast), "native, cbor2 in", cbor2.loads.__class__.__name__ + ",",
      "protobuf in", api_implementation.Type())
"""


def run(argv: Sequence[object], **how: object) -> str:
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False, **how)  # type: ignore[call-overload]
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        sys.exit(f"ended with {done.returncode}: {' '.join(map(str, argv[:6]))} ...")
    return str(done.stdout)


def reported(python: Sequence[str], deb: Path, check: Path | None, place: Path) -> list[str]:
    """What the package did, a line each. Exits with what it said where it did not."""
    run(["dpkg-deb", "-x", deb, place / "root"])
    package = run(["dpkg-deb", "-f", deb, "Package"]).strip()
    home = place / "root/usr/lib" / package
    # Compiling the standard library emulated takes longer than the tests: it is done once.
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")}
    env |= {"PYTHONPYCACHEPREFIX": str(place / "pycache")}
    said = [run([*python, "-S", "-c", IMPORTS, home, place / "journal"], env=env).strip()]
    for launcher in sorted((place / "root/usr/bin").iterdir()):
        text = launcher.read_text().replace(f"/usr/lib/{package}", str(home))
        said.append(run([*python, "-S", "-c", text, "--help"], env=env).splitlines()[0])
    if check is None:
        return said
    for wheel in check.glob("*.whl"):
        run([sys.executable, "-m", "zipfile", "-e", wheel, place / "check"])
    env |= {"PYTHONPATH": os.pathsep.join(map(str, (home, home / "lib", place / "check", Path.cwd())))}
    argv = [*python, "-m", "pytest", "-v", "-p", "no:cacheprovider", "unit/native", "--hypothesis-profile=few"]
    tests = run(argv, env=env)
    speeds = {speed: len(re.findall(rf"\[(?:.*-)?{speed}(?:-.*)?\] PASSED", tests)) for speed in ("pure", "compiled")}
    if not speeds["compiled"] or speeds["pure"] != speeds["compiled"]:
        sys.exit(f"the two speeds did not run the same tests: {speeds}")
    passed = re.findall(r"\d+ passed", tests)[-1]
    return [*said, f"{passed}, of them by speed {speeds}"]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for word in ("--target", "--deb", "--sysroot", "--check", "--out"):
        words.add_argument(word, type=Path, required=word != "--check")
    args = words.parse_args()
    debs = list(args.deb.glob("*.deb"))
    if len(debs) != 1:
        raise Refusal(str(args.deb), "--deb", f"{len(debs)} packages", "one")
    with tempfile.TemporaryDirectory() as name:
        said = reported(emulated(args.sysroot, read_target(args.target)), debs[0], args.check, Path(name))
    args.out.write_text("\n".join(said) + "\n")


if __name__ == "__main__":
    entry(main)
