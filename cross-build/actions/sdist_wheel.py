"""Wheels that PyPI has not, from their locked sources: what a 32-bit ARM board needs of uvloop, lmdb and cbor2.

    sdist_wheel.py --target TARGET.toml --lock LOCK.txt --sources DIR --sysroot DIR --out DIR

Each NAME-VERSION.tar.gz in `--sources` must be in the lock by its hash. These use the full Python API, so each is for
one minor version; names and suffixes come from the target's own sysconfig data, which lies in the sysroot.
Needs setuptools and ziglang beside this Python, and the program `patch` for lmdb.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import zig
from refusal import Refusal, entry
from target import Target
from target import read as read_target
from wheelhouse import Locked, locked, normal

# Runs a project's setup.py as it is; the version is the lock's, so that no tool asks git for one.
DRIVER = """
import sys
sys.path.insert(0, "")
from distutils.core import run_setup
import setuptools.dist
setuptools.dist.Distribution.fetch_build_eggs = lambda dist, requires: []  # nothing is fetched here
dist = run_setup("setup.py", ["-q", "bdist_wheel", "-d", sys.argv[2]], "commandline")
dist.metadata.version = sys.argv[1]
if not dist.ext_modules:
    sys.exit("setup.py lists no native module")
for module in dist.ext_modules:
    module.optional = False
dist.run_commands()
"""
# Each project's own switches: C always, autoconf's name of the machine, LMDB's source with lmdb's patches.
SWITCHES = {"cbor2": {"CBOR2_BUILD_C_EXTENSION": "1"}, "uvloop": {"LIBUV_CONFIGURE_HOST": "{triple}"}}


def source(path: Path, lock: dict[str, Locked]) -> Locked:
    """The lock's entry of a source archive. Raises Refusal."""
    found = re.fullmatch(r"(.+)-([^-]+)\.tar\.gz", path.name)
    pin = lock.get(normal(found.group(1))) if found else None
    if not found or pin is None or pin.version != found.group(2):
        raise Refusal(path.name, "lock", "not locked", "a NAME-VERSION.tar.gz of the lock")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest not in pin.digests:
        raise Refusal(path.name, "sha256", digest, "a digest of the lock")
    return pin


def sysconfig(sysroot: Path, target: Target, place: Path) -> str:
    """Copy the target's sysconfig data into `place`, alone: its neighbours would shadow this Python's; its name."""
    name = f"_sysconfigdata__{target.triple}"
    data = sysroot / f"usr/lib/python{target.python}/{name}.py"
    if not data.is_file():
        raise Refusal(str(sysroot), "--sysroot", f"no {name}.py", f"libpython{target.python}-minimal unpacked")
    place.mkdir()
    shutil.copyfile(data, place / data.name)
    return name


def unpacked(path: Path, place: Path) -> Path:
    """The folder that the archive holds; nothing of it can lie outside. Modes and owners are made equal."""
    with tarfile.open(path) as archive:
        for member in archive.getmembers():
            inside = (place / member.name).resolve()
            if not inside.is_relative_to(place.resolve()) or not (member.isfile() or member.isdir()):
                continue
            if member.isdir():
                inside.mkdir(parents=True, exist_ok=True)
                continue
            inside.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            inside.write_bytes(content.read())
            inside.chmod(0o755 if member.mode & 0o100 else 0o644)
            # Make and autoconf compare times: keep the archive's, so that nothing is generated anew.
            os.utime(inside, (member.mtime, member.mtime))
    return next(folder for folder in place.iterdir() if folder.is_dir())


def placeless(wheel: bytes, work: Path) -> bytes:
    """The wheel without the folder that it was built in, which lmdb writes down. Raises Refusal where it cannot go."""
    here, out = str(work).encode(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        files = {item: old.read(item) for item in old.infolist()}
        for item, data in files.items():
            if here in data and data.startswith(b"\x7fELF"):
                raise Refusal(item.filename, "path", "the folder it was built in", "none")
        record = next(item for item in files if item.filename.endswith(".dist-info/RECORD"))
        for item in [item for item, data in files.items() if here in data]:
            line, files[item] = recorded(item.filename, files[item]), files[item].replace(here, b"/source")
            files[record] = files[record].replace(line, recorded(item.filename, files[item]))
        for item, data in files.items():
            new.writestr(item, data)
    return out.getvalue()


def recorded(name: str, data: bytes) -> bytes:
    """A file's line in RECORD (PEP 376, PEP 427)."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return b"%s,sha256=%s,%d" % (name.encode(), digest, len(data))


def built(path: Path, pin: Locked, target: Target, sysroot: Path, cache: Path, epoch: int) -> tuple[str, bytes]:
    """Name and bytes of the wheel. Raises Refusal, CalledProcessError."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name, "source")
        place.mkdir()
        work, made = unpacked(path, place), Path(name, "made")
        switches = {k: v.format(triple=target.triple) for k, v in SWITCHES.get(pin.name, {}).items()}
        env = {
            **os.environ,
            **zig.environment(target, sysroot.resolve() / "usr/include", work, epoch),
            "ZIG_GLOBAL_CACHE_DIR": str(cache),
            "ZIG_LOCAL_CACHE_DIR": str(Path(name, "local")),
            "_PYTHON_SYSCONFIGDATA_NAME": sysconfig(sysroot, target, Path(name, "sysconfig")),
            "PYTHONPATH": os.pathsep.join([str(Path(name, "sysconfig")), os.environ.get("PYTHONPATH", "")]),
            **switches,
        }
        argv = [sys.executable, "-c", DRIVER, pin.version, str(made)]
        subprocess.run(argv, cwd=work, env=env, check=True, capture_output=True)
        data = placeless(next(made.glob("*.whl")).read_bytes(), work)
    tag = f"cp3{target.python_minor}"
    return f"{pin.name.replace('-', '_')}-{pin.version}-{tag}-{tag}-{target.platform_tag}.whl", data


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for word in ("--target", "--lock", "--sources", "--sysroot", "--out"):
        words.add_argument(word, type=Path, required=True)
    args = words.parse_args()
    target, lock = read_target(args.target), locked(args.lock.read_text())
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "1700000000"))
    os.umask(0o022)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:  # zig's: the runtime libraries are compiled once for all
        for path in sorted(args.sources.glob("*.tar.gz")):
            name, data = built(path, source(path, lock), target, args.sysroot, Path(cache), epoch)
            (args.out / name).write_bytes(data)
            print(name)


if __name__ == "__main__":
    entry(main)
