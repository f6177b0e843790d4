"""skerry_<version>+<suite>_<arch>.deb (and skerry-hub's), from parts that were built before.

    deb.py --target TARGET.toml --project pyproject.toml --packaging DIR --code DIR... --native X.whl --wheelhouse DIR
        --sysroot DIR [--size-max-mb N] --out DIR

`--packaging` has files.toml (source, path, mode) and debian/ (control, maintainer scripts, copyright, changelog,
lintian-overrides). In control, `${Version}`, `${Architecture}`, `${Installed-Size}`, `${python3:Depends}` and
`${shlibs:Depends}` are filled in; what lies below /etc is a conffile. A target whose Python is in the sysroot gets
byte code (bytecode.py); for another the sources ship and the device compiles them when the package is installed. The
same inputs give the same bytes, whatever folder, umask, user and day; SOURCE_DATE_EPOCH is the time of all files.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import contents
from bytecode import compiled, emulated
from check_elf import checked
from elf import Elf
from refusal import Refusal, entry, toml
from target import Target
from target import read as read_target

# Whose package a library of the distribution is in. The C++ runtime is protobuf's; Debian's apt needs it too.
LIBRARIES = {
    **dict.fromkeys(("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"), "libc6"),
    **dict.fromkeys(("ld-linux-aarch64.so.1", "ld-linux-armhf.so.3", "ld-linux-x86-64.so.2"), "libc6"),
    "libgcc_s.so.1": "libgcc-s1",
    "libstdc++.so.6": "libstdc++6",
}
OLDEST_GLIBC = (2, 17)
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
# Installed where no byte code ships: Debian's own way, for the default Python.
COMPILE = {
    "postinst": 'if [ "$1" = configure ]; then py3compile -p {name}; fi\n',
    "prerm": 'if [ "$1" != upgrade ]; then py3clean -p {name}; fi\n',
}


@dataclass(frozen=True, slots=True)
class Package:
    """What is packed: its name, its version with the suite, and where it lives on the device."""

    name: str
    version: str
    scripts: dict[str, str]

    @property
    def home(self) -> str:
        return f"usr/lib/{self.name}"


def described(project: str, target: Target) -> Package:
    said = toml("pyproject.toml", project)["project"]
    return Package(said["name"], f"{said['version']}+{target.suite}", said["scripts"])


def python_depends(target: Target) -> str:
    """uvloop and lmdb bind to the Python minor version, and so does the byte code."""
    return f"python3 (>= {target.python}), python3 (<< 3.{target.python_minor + 1})"


def library_depends(files: Iterable[Elf]) -> str:
    """The packages of the libraries that the ELF files load. Raises Refusal for a library that is in none of them."""
    files = list(files)
    wanted = sorted({name for elf in files for name in elf.needed})
    unknown = [name for name in wanted if name not in LIBRARIES]
    if unknown:
        raise Refusal("an ELF file", "needed library", ", ".join(unknown), ", ".join(LIBRARIES))
    newest = ".".join(map(str, max([OLDEST_GLIBC, *(elf.glibc for elf in files)])))
    others = sorted({LIBRARIES[name] for name in wanted} - {"libc6"})
    return ", ".join([f"libc6 (>= {newest})", *others])


def filled(control: str, package: Package, target: Target, size_kib: int, libraries: str) -> str:
    """The control file of the binary package. Raises Refusal for a variable that nobody fills."""
    values = {
        "Version": package.version,
        "Architecture": target.deb_arch,
        "Installed-Size": str(size_kib),
        "python3:Depends": python_depends(target),
        "shlibs:Depends": libraries,
    }
    text = re.sub(r"\$\{([\w:-]+)\}", lambda m: values.get(m[1], m[0]), control)
    if "${shlibs:Depends}" not in control:
        raise Refusal("debian/control", "Depends", "no ${shlibs:Depends}", "what the ELF files load")
    left = re.search(r"\$\{[^}]*\}?", text)
    if left:
        raise Refusal("debian/control", left[0], "an unknown variable", ", ".join(values))
    said = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", text, re.MULTILINE))
    for field, wanted in {"Package": package.name, "Version": package.version, "Architecture": target.deb_arch}.items():
        if said.get(field) != wanted:
            raise Refusal("debian/control", field, said.get(field, "nothing"), wanted)
    return "\n".join(line for line in text.splitlines() if line and not line.startswith("#")) + "\n"


def size_kib(root: Path) -> int:
    """Installed-Size by Debian Policy 5.6.20: each file rounded up to a KiB, each folder and link 1 KiB."""
    total = 0
    for path in root.rglob("*"):
        regular = path.is_file() and not path.is_symlink()
        total += -(-path.stat().st_size // 1024) if regular else 1
    return total


def put_documents(packaging: Path, package: Package, licences: str, epoch: int, root: Path) -> None:
    """copyright with the licences of everything vendored, and the changelog, as Policy 12 wants them."""
    docs = root / "usr/share/doc" / package.name
    docs.mkdir(parents=True, exist_ok=True)
    head = (packaging / "debian/copyright").read_text()
    (docs / "copyright").write_text(f"{head.rstrip()}\n\nVendored libraries\n{'=' * 80}\n\n{licences}")
    changes = packaging / "debian/changelog"
    when = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(epoch))
    text = f"{package.name} ({package.version}) unstable; urgency=medium\n\n  * See the project's CHANGELOG.\n\n"
    text += f" -- skerry maintainers <skerry@example.invalid>  {when}\n"
    text = changes.read_text() if changes.is_file() else text
    (docs / "changelog.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    overrides = packaging / "debian/lintian-overrides"
    if overrides.is_file():
        place = root / "usr/share/lintian/overrides" / package.name
        place.parent.mkdir(parents=True)
        shutil.copyfile(overrides, place)


def put_control(
    packaging: Path, package: Package, target: Target, libraries: str, compile_there: bool, root: Path
) -> None:
    """The DEBIAN folder: control, md5sums, conffiles, maintainer scripts."""
    control, debian = root / "DEBIAN", packaging / "debian"
    files = sorted(p for p in root.rglob("*") if p.is_file())
    text = filled((debian / "control").read_text(), package, target, size_kib(root), libraries)
    control.mkdir()
    (control / "control").write_text(text)
    # Policy: everything below /etc is a conffile.
    conffiles = [f"/{p.relative_to(root)}" for p in files if p.is_relative_to(root / "etc")]
    if conffiles:
        (control / "conffiles").write_text("\n".join(conffiles) + "\n")
    sums = [
        f"{hashlib.md5(p.read_bytes(), usedforsecurity=False).hexdigest()}  {p.relative_to(root)}"
        for p in files if f"/{p.relative_to(root)}" not in conffiles
    ]  # fmt: skip
    (control / "md5sums").write_text("\n".join(sums) + "\n")
    for name in SCRIPTS:
        script = debian / name
        ours = COMPILE.get(name, "").format(name=package.name) if compile_there else ""
        if script.is_file() or ours:
            text = script.read_text() if script.is_file() else "#!/bin/sh\nset -e\n#DEBHELPER#\n"
            if "#DEBHELPER#" not in text and ours:
                raise Refusal(f"debian/{name}", "#DEBHELPER#", "no such line", "the place for py3compile")
            (control / name).write_text(text.replace("#DEBHELPER#\n", ours))
            (control / name).chmod(0o755)
    extra = {p.name for p in debian.iterdir()} - {*SCRIPTS, "control", "copyright", "changelog", "lintian-overrides"}
    for name in sorted(extra - {"conffiles"}):
        shutil.copyfile(debian / name, control / name)


def settled(root: Path, epoch: int) -> None:
    """Equal times, and equal modes of folders; the modes of files were set when they were put."""
    for path in [root, *root.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def packed(root: Path, out: Path, epoch: int) -> None:
    """Raises CalledProcessError."""
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C", "TZ": "UTC"}
    argv = ["dpkg-deb", "-Zxz", "-z9", "--threads-max=1", "--root-owner-group", "--build", str(root), str(out)]
    try:
        subprocess.run(argv, env=env, check=True, capture_output=True)
    except FileNotFoundError as why:
        raise Refusal("dpkg-deb", "program", "not installed", "the Debian package dpkg") from why


def composed(args: argparse.Namespace, package: Package, target: Target, epoch: int, root: Path) -> str:
    """Put everything that is in the package below `root`; what its libraries depend on. Raises Refusal, Refusals."""
    home, licences = root / package.home, (args.wheelhouse / "licenses.txt").read_text()
    contents.put_code(args.code, home)
    contents.put_wheel(args.native, home)
    contents.put_tree(args.wheelhouse / "lib", home / "lib")
    shutil.copyfile(args.wheelhouse / "vendored.json", home / "vendored.json")
    if target.has_python:
        sourceless = [f"{package.home}/{name}" for name in ("lib", *(code.name for code in args.code))]
        compiled(root, package.home, sourceless, emulated(args.sysroot, target), target)
    libraries = library_depends(checked(root, target).values())
    contents.put_launchers(package.scripts, f"/{package.home}", root)
    files = contents.placed("files.toml", (args.packaging / "files.toml").read_text())
    contents.put_files(args.packaging, files, root)
    put_documents(args.packaging, package, licences, epoch, root)
    return libraries


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for word in ("--target", "--project", "--packaging", "--native", "--wheelhouse", "--sysroot", "--out"):
        words.add_argument(word, type=Path, required=True)
    words.add_argument("--code", type=Path, action="append", required=True, help="a package of ours; repeatable")
    words.add_argument("--size-max-mb", type=float, help="refuse a package that takes more installed")
    args = words.parse_args()
    target, epoch = read_target(args.target), int(os.environ.get("SOURCE_DATE_EPOCH", "1700000000"))
    package = described(args.project.read_text(), target)
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "root")
        root.mkdir(mode=0o755)
        libraries = composed(args, package, target, epoch, root)
        size = size_kib(root)
        megabytes = size * 1024 / 1e6
        if args.size_max_mb and megabytes > args.size_max_mb:
            raise Refusal(package.name, "installed size", f"{megabytes:.2f} MB", f"at most {args.size_max_mb:g} MB")
        put_control(args.packaging, package, target, libraries, not target.has_python, root)
        settled(root, epoch)
        args.out.mkdir(parents=True, exist_ok=True)
        made = args.out / f"{package.name}_{package.version}_{target.deb_arch}.deb"
        packed(root, made, epoch)
    print(f"{made}: {made.stat().st_size} bytes, {size} KiB installed")


if __name__ == "__main__":
    entry(main)
