# ruff: noqa: T201 — a program that says what it does.
"""A package on an emulated board: its tree is imported whole, its commands start, the native modules pass their tests.

    python cross-build/emulated.py --target aarch64-bookworm --deb X.deb [--hypothesis-profile few]

User-mode QEMU with the target's own Python and libraries, from the sysroot that make_deb.py fetched: it shows function,
never speed. Ubuntu's Python 3.10 for ARM is in no Debian suite; that target's package is only checked by check_elf.
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

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "actions")]

import target as targets  # noqa: E402
import wheelhouse  # noqa: E402
from refusal import Refusal, entry  # noqa: E402

import make_deb  # noqa: E402

ROOT, CACHE = make_deb.ROOT, make_deb.CACHE
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


def tests_for(name: str) -> Path:
    """pytest and hypothesis for the target, unpacked."""
    target, place = targets.read(HERE / f"targets/{name}.toml"), CACHE / f"check/{name}"
    lock, wheels = HERE / f"locks/check-{target.python}.txt", CACHE / f"check/wheels-{name}"
    words = ["--target", HERE / f"targets/{name}.toml", "--lock", lock, "--out", wheels]
    run([sys.executable, HERE / "actions/fetch.py", "wheels", *words])
    if not (place / "pytest").is_dir():
        for _, wheel in wheelhouse.chosen(wheelhouse.locked(lock.read_text()), wheels, None, target):
            run([sys.executable, "-m", "zipfile", "-e", wheel, place])
    return place


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--target", required=True)
    words.add_argument("--deb", type=Path, required=True)
    words.add_argument("--hypothesis-profile", default="ci")
    args = words.parse_args()
    target, sysroot = targets.read(HERE / f"targets/{args.target}.toml"), CACHE / f"sysroot/{args.target}"
    python = sysroot / f"usr/bin/python{target.python}"
    if not python.is_file():
        raise Refusal(
            str(sysroot), args.target, f"no python{target.python}", "a sysroot: run make_deb.py, Debian suites only"
        )
    emulator = make_deb.QEMU.get(target.arch)
    emulated: list[object] = [*([emulator, "-L", sysroot] if emulator else []), python]
    with tempfile.TemporaryDirectory() as name:
        run(["dpkg-deb", "-x", args.deb, name])
        package = run(["dpkg-deb", "-f", args.deb, "Package"]).strip()
        home = Path(name, "usr/lib", package)
        print(run([*emulated, "-IS", "-c", IMPORTS, home, Path(name, "journal")]).strip(), flush=True)
        for launcher in sorted(Path(name, "usr/bin").iterdir()):
            text = launcher.read_text().replace(f"/usr/lib/{package}", str(home))
            print(run([*emulated, "-IS", "-c", text, "--help"]).splitlines()[0], flush=True)
        paths = [home, home / "lib", tests_for(args.target), ROOT / "tests"]
        env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        # Compiling pytest and the standard library emulated takes longer than the tests: it is done once.
        env |= {"PYTHONPATH": os.pathsep.join(map(str, paths)), "PYTHONPYCACHEPREFIX": str(CACHE / "pycache")}
        # test_bench measures, test_built runs a compiler: both are the building machine's.
        left_out = [f"--ignore=tests/unit/native/{file}.py" for file in ("test_bench", "test_built")]
        argv = [*emulated, "-m", "pytest", "-v", "-p", "no:cacheprovider", *left_out, "tests/unit/native"]
        said = run([*argv, f"--hypothesis-profile={args.hypothesis_profile}"], cwd=ROOT, env=env)
        speeds = {
            speed: len(re.findall(rf"\[(?:.*-)?{speed}(?:-.*)?\] PASSED", said)) for speed in ("pure", "compiled")
        }
        if not speeds["compiled"] or speeds["pure"] != speeds["compiled"]:
            sys.exit(f"the two speeds did not run the same tests: {speeds}")
        print(f"{args.target}: {said.strip().splitlines()[-1].strip('= ')}, of them by speed {speeds}")


if __name__ == "__main__":
    entry(main)
