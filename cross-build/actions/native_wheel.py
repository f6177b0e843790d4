"""skerry's own native modules as one abi3 wheel for a target.

    native_wheel.py --source REPO --target TARGET.toml --headers SYSROOT/usr/include --out DIR

Compiles what the repository's setup.py lists, with the Python 3.10 limited API: one wheel loads on every later Python,
so three suites share it (docs/decisions/0007-packages.md). Needs cython, setuptools and ziglang beside this Python.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import zig
from refusal import Refusal, entry, toml
from target import Target
from target import read as read_target

API, TAG = "0x030A0000", "cp310"
KEPT = (".py", ".pxd", ".pyi", ".typed")
# Runs setup.py as it is and changes only what a cross build must: no module may fail in silence, and the limited API.
DRIVER = """
import sys
from distutils.core import run_setup
import setuptools
dist = run_setup("setup.py", ["-q", "bdist_wheel", *sys.argv[2:]], "commandline")
if not dist.ext_modules:
    sys.exit("setup.py lists no native module: is cython installed?")
for module in dist.ext_modules:
    module.optional = False
    module.py_limited_api = True
    module.define_macros += [("Py_LIMITED_API", sys.argv[1]), ("NDEBUG", "1")]
dist.run_commands()
"""
PROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "skerry-native"
version = "{version}"
requires-python = ">=3.10"
[tool.setuptools.packages.find]
where = ["native"]
[tool.setuptools.package-data]
skerry_native = ["*.pxd", "*.pyi", "py.typed"]
"""


def staged(source: Path, work: Path) -> None:
    """A copy of what the build reads, with equal modes and nothing else: no .so and no .c of an earlier build."""
    for path in [source / "setup.py", *sorted((source / "native").rglob("*"))]:
        if path.is_file() and path.suffix in KEPT and "__pycache__" not in path.parts:
            copy = work / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            copy.chmod(0o644)
    version = toml("pyproject.toml", (source / "pyproject.toml").read_text())["project"]["version"]
    (work / "pyproject.toml").write_text(PROJECT.format(version=version))


def built(source: Path, target: Target, headers: Path, epoch: int) -> tuple[str, bytes]:
    """Name and bytes of the wheel. Raises CalledProcessError with what the compiler said."""
    if not zig.has_headers(headers, target):
        raise Refusal(str(headers), "--headers", f"no {target.triple}/python3.*", "usr/include of libpython3.11-dev")
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as name:
        work, made = Path(name, "source"), Path(name, "made")
        staged(source, work)
        env = {
            **os.environ,
            **zig.environment(target, headers.resolve(), work, epoch),
            "ZIG_GLOBAL_CACHE_DIR": str(Path(name, "cache")),
            "ZIG_LOCAL_CACHE_DIR": str(Path(name, "local")),
        }
        options = ["--py-limited-api", TAG, "--plat-name", target.platform_tag, "-d", str(made)]
        argv = [sys.executable, "-c", DRIVER, API, *options]
        subprocess.run(argv, cwd=work, env=env, check=True, capture_output=True)
        wheel = next(made.glob("*.whl"))
        return wheel.name, wheel.read_bytes()


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for word in ("--source", "--target", "--headers", "--out"):
        words.add_argument(word, type=Path, required=True)
    args = words.parse_args()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "1700000000"))
    name, data = built(args.source, read_target(args.target), args.headers, epoch)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / name).write_bytes(data)
    with zipfile.ZipFile(args.out / name) as wheel:
        modules = sorted(n for n in wheel.namelist() if n.endswith(".so"))
    print(f"{name}: {', '.join(modules)}")


if __name__ == "__main__":
    entry(main)
