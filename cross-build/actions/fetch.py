"""The only step of a cross build that uses the network: what the locks name, checked against their digests.

    fetch.py wheels  --target TARGET.toml --lock LOCK.txt --out DIR [--from-source NAME...]
    fetch.py sysroot --target TARGET.toml --lock TARGET.debs --out DIR
    fetch.py lock    --target TARGET.toml --lock TARGET.debs

`wheels` downloads through pip, and the sources of those that are built here; `sysroot` unpacks Debian packages with the
target's headers and its Python, for the compiler and for qemu-user. A second run finds everything there.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import wheelhouse
from apt import Archive, Pinned, pinned
from refusal import Refusal, entry
from target import Target
from target import read as read_target

# What Python needs to run under qemu-user, and what the vendored libraries load.
RUNTIME = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libbz2-1.0", "liblzma5", "libuuid1", "libsqlite3-0")
BY_SUITE = {
    "bookworm": ("libffi8", "libssl3", "libexpat1"),
    "trixie": ("libffi8", "libssl3t64", "libexpat1", "libzstd1"),
}


def packages(target: Target) -> list[str]:
    """The Debian packages of a sysroot. Raises Refusal for a suite that Debian has not."""
    if target.suite not in BY_SUITE:
        raise Refusal(target.suite, "suite", "not of Debian", " or ".join(BY_SUITE))
    python = f"python{target.python}"
    parts = [f"lib{python}-dev", f"{python}-minimal", f"lib{python}-minimal", f"lib{python}-stdlib"]
    return [*parts, *RUNTIME, *BY_SUITE[target.suite]]


def lock(target: Target, path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        archive = Archive(Path(name), target.suite, target.deb_arch)
        archive.update()
        versions = [(package, archive.newest(package)) for package in packages(target)]
        pins = sorted(Pinned(package, version, archive.digest(package, version)) for package, version in versions)
    lines = [f"{pin.name} {pin.version} {pin.sha256}" for pin in pins]
    path.write_text("\n".join(["# Made by cross-build/lock.", *lines]) + "\n")


def sysroot(target: Target, path: Path, out: Path) -> None:
    """Raises Refusal for a package that differs from its pin or is no longer in the archive."""
    pins, digest = pinned(path.name, path.read_text()), hashlib.sha256(path.read_bytes()).hexdigest()
    stamp = out / ".lock"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        archive, debs = Archive(Path(name, "apt"), target.suite, target.deb_arch), Path(name, "debs")
        debs.mkdir()
        archive.update()
        try:
            archive.download(pins, debs)
        except subprocess.CalledProcessError as why:
            said = (why.stderr or "").strip().splitlines()[-1:]
            raise Refusal(path.name, "package", " ".join(said), "what the archive has: run cross-build/lock") from why
        wanted = {pin.sha256 for pin in pins}
        for deb in sorted(debs.glob("*.deb")):
            if hashlib.sha256(deb.read_bytes()).hexdigest() not in wanted:
                raise Refusal(deb.name, "sha256", "another file", "the one that is locked")
            subprocess.run(["dpkg-deb", "-x", str(deb), str(out)], check=True, capture_output=True)
    if not (out / "lib").exists():  # since Debian 13 libc's files lie in /usr alone; the link is base-files'
        (out / "lib").symlink_to("usr/lib")
    stamp.write_text(digest)


def platforms(target: Target) -> list[str]:
    """Each manylinux tag that the target's glibc can load: pip takes none by implication."""
    newest = target.glibc[1]
    return ["manylinux2014_" + target.arch, *(f"manylinux_2_{n}_{target.arch}" for n in range(17, newest + 1))]


def wheels(target: Target, path: Path, out: Path, from_source: Sequence[str]) -> None:
    """Download what the lock names. pip checks the digests; wheelhouse.py checks them again."""
    text = path.read_text()
    stamp, digest = out / ".lock", hashlib.sha256("\n".join([text, *from_source]).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    pins = wheelhouse.locked(text)
    unknown = [name for name in from_source if name not in pins]
    if unknown:
        raise Refusal(path.name, ", ".join(unknown), "not locked", ", ".join(pins))
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-d", str(out)]
    tags = [word for tag in platforms(target) for word in ("--platform", tag)]
    python = ["--implementation", "cp", "--python-version", target.python, "--abi", f"cp3{target.python_minor}"]
    python += ["--abi", "abi3", "--abi", "none", "--only-binary", ":all:"]
    with tempfile.TemporaryDirectory() as name:
        wanted = Path(name, "wheels.txt")
        wanted.write_text(_only(pins, [name for name in pins if name not in from_source]))
        subprocess.run([*pip, *tags, *python, "-r", str(wanted)], check=True, capture_output=True)
        if from_source:
            wanted.write_text(_only(pins, from_source))
            source = ["--no-binary", ",".join(from_source), "-r", str(wanted)]  # not :all:, or pip compiles Cython
            subprocess.run([*pip, *source], check=True, capture_output=True)
    stamp.write_text(digest)


def _only(pins: dict[str, wheelhouse.Locked], names: Sequence[str]) -> str:
    lines = []
    for name in names:
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in sorted(pins[name].digests))
        lines.append(f"{name}=={pins[name].version} {hashes}")
    return "\n".join(lines) + "\n"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("verb", choices=("wheels", "sysroot", "lock"))
    words.add_argument("--target", type=Path, required=True)
    words.add_argument("--lock", type=Path, required=True)
    words.add_argument("--out", type=Path)
    words.add_argument("--from-source", nargs="*", default=[])
    args = words.parse_args()
    target = read_target(args.target)
    if args.verb == "lock":
        return lock(target, args.lock)
    if not args.out:
        words.error("--out is needed")
    if not args.lock.is_file():
        raise Refusal(str(args.lock), "--lock", "no such file", "run cross-build/lock")
    if args.verb == "sysroot":
        return sysroot(target, args.lock, args.out)
    return wheels(target, args.lock, args.out, args.from_source)


if __name__ == "__main__":
    entry(main)
