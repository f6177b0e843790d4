"""A package from planted parts, on this machine's own architecture: equal bytes, what is in it, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

CROSS = Path(__file__).parents[2] / "cross-build"
ACTIONS = CROSS / "actions"
EPOCH = "1700000000"
CONTROL = """Package: skerry
Version: ${Version}
Architecture: ${Architecture}
Maintainer: a <a@example.invalid>
Installed-Size: ${Installed-Size}
Depends: ${python3:Depends}, ${shlibs:Depends}
Description: planted
"""
needs_tools = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("gcc", "strip", "readelf", "dpkg-deb", "qemu-x86_64-static"))
    or os.uname().machine != "x86_64",
    reason="needs gcc, binutils, dpkg and qemu-user on x86-64",
)


@dataclass(frozen=True)
class Ran:
    code: int
    said: str


@dataclass(frozen=True)
class Bench:
    """A folder with a target for this Python, a lock, a wheel with a real shared object, and packaging files."""

    root: Path

    def run(self, action: str, *words: object, umask: int = 0o022) -> Ran:
        argv = [sys.executable, str(ACTIONS / action), "--target", str(self.root / "here.toml"), *map(str, words)]
        env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, umask=umask)
        return Ran(done.returncode, done.stdout + done.stderr)

    def wheelhouse(self, out: Path) -> Ran:
        thin, lock = CROSS / "thin.toml", self.root / "lock.txt"
        words = ("--lock", lock, "--wheels", self.root / "wheels", "--thin", thin, "--strip", "strip", "--out", out)
        return self.run("wheelhouse.py", *words)

    def deb(self, out: Path, *more: object, umask: int = 0o022) -> Ran:
        root = self.root
        words = (
            "--project",
            root / "pyproject.toml",
            "--packaging",
            root / "packaging",
            "--code",
            root / "skerry",
            "--native",
            next((root / "native").glob("*.whl")),
            "--wheelhouse",
            root / "house",
            "--sysroot",
            root / "sysroot",
            "--out",
            out,
        )
        return self.run("deb.py", *words, *more, umask=umask)  # fmt: skip


def wheel(place: Path, files: dict[str, bytes]) -> str:
    place.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(place, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return sha256(place.read_bytes()).hexdigest()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    minor, root = sys.version_info[1], tmp_path
    text = (CROSS / "targets/amd64-bookworm.toml").read_text().replace('"3.11"', f'"3.{minor}"')
    (root / "here.toml").write_text(text.replace('glibc_max = "2.36"', 'glibc_max = "2.99"'))
    (root / "x.c").write_text("int answer(void) { return 42; }\n")
    made = root / "x.so"
    subprocess.run(["gcc", "-g", "-shared", "-o", made, root / "x.c"], check=True)
    tags = f"cp3{minor}-cp3{minor}-manylinux_2_17_x86_64"
    name = f"other/hot.cpython-3{minor}-x86_64-linux-gnu.so"
    digest = wheel(
        root / f"wheels/other-1.0-{tags}.whl",
        {name: made.read_bytes(), "other/__init__.py": b"KNOWN = 1\n", "other/hot.pyx": b"x",
         "other/tests/test_x.py": b"", "other-1.0.dist-info/licenses/LICENSE": b"Do as you like."},
    )  # fmt: skip
    (root / "lock.txt").write_text(f"other==1.0 \\\n    --hash=sha256:{digest}\n")
    wheel(
        root / "native/skerry_native-1-cp310-abi3-manylinux_2_31_x86_64.whl", {"skerry_native/__init__.py": b"N = 1\n"}
    )
    (root / "skerry").mkdir()
    (root / "skerry/__init__.py").write_text("")
    (root / "skerry/cli.py").write_text("def main() -> int:\n    import other\n    return other.KNOWN + 6\n")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "skerry"\nversion = "1.2"\n[project.scripts]\nskerry = "skerry.cli:main"\n'
    )
    (root / "sysroot/usr/bin").mkdir(parents=True)
    (root / f"sysroot/usr/bin/python3.{minor}").symlink_to(Path(sys.executable).resolve())
    debian = root / "packaging/debian"
    debian.mkdir(parents=True)
    (debian / "control").write_text(CONTROL)
    (debian / "copyright").write_text("ours\n")
    (root / "packaging/files.toml").write_text('[[file]]\nsource = "c.toml"\npath = "/etc/skerry/c.toml"\n')
    (root / "packaging/c.toml").write_text("x = 1\n")
    return Bench(root)


@needs_tools
def test_the_same_parts_give_the_same_package_in_any_folder_and_umask(bench: Bench) -> None:
    made = []
    assert bench.wheelhouse(bench.root / "house").code == 0
    for where, umask in (("one", 0o022), ("two/below", 0o077)):
        ran = bench.deb(bench.root / where, umask=umask)
        assert ran.code == 0, ran.said
        made.append(next((bench.root / where).glob("*.deb")))
    assert made[0].name == "skerry_1.2+bookworm_amd64.deb"
    assert made[0].read_bytes() == made[1].read_bytes()


@needs_tools
def test_a_package_runs_from_its_own_tree(bench: Bench) -> None:
    """Every module as byte code alone, a conffile, and a launcher that finds them."""
    root, tree = bench.root, bench.root / "tree"
    assert bench.wheelhouse(root / "house").code == 0
    assert bench.deb(root / "out").code == 0
    (deb,) = (root / "out").glob("*.deb")
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    home, minor = tree / "usr/lib/skerry", sys.version_info[1]
    assert sorted(p.name for p in (home / "lib/other").iterdir()) == [
        "__init__.pyc", f"hot.cpython-3{minor}-x86_64-linux-gnu.so",
    ]  # fmt: skip
    assert (home / "skerry/cli.pyc").is_file()
    assert not list((home / "skerry").rglob("*.py"))
    assert (tree / "DEBIAN/conffiles").read_text() == "/etc/skerry/c.toml\n"
    control = (tree / "DEBIAN/control").read_text()
    assert f"python3 (>= 3.{minor}), python3 (<< 3.{minor + 1}), libc6 (>= 2." in control
    assert "Do as you like." in (tree / "usr/share/doc/skerry/copyright").read_text()
    assert json.loads((home / "vendored.json").read_text())[0]["name"] == "other"
    launcher = (tree / "usr/bin/skerry").read_text().replace("/usr/lib/skerry", str(home))
    done = subprocess.run([sys.executable, "-IS", "-c", launcher], cwd="/", check=False)
    assert done.returncode == 7


DOCUMENTED = '''"""A module."""

from __future__ import annotations

from dataclasses import dataclass


def alone() -> None:
    """Nothing else."""


def refuses() -> None:
    """What it says is not shipped; what it checks is."""
    "Nor is this a docstring."
    assert __debug__ and False, "checked"


class Plain:
    """A class."""


@dataclass
class Value:
    """Of a dataclass: it would make one up."""

    x: int = 0
'''
ASKED = """
import json, traceback
from skerry import documented as d, own
try:
    d.refuses()
except AssertionError as why:
    said = [str(why), traceback.extract_tb(why.__traceback__)[-1].lineno]
docs = [d.__doc__, d.alone.__doc__, d.refuses.__doc__, d.Plain.__doc__, d.Value.__doc__, own.__doc__]
print(json.dumps([docs, d.alone(), said]))
"""


@needs_tools
def test_byte_code_has_no_docstrings_but_those_that_are_read_and_keeps_asserts_and_lines(bench: Bench) -> None:
    (bench.root / "skerry/documented.py").write_text(DOCUMENTED)
    (bench.root / "skerry/own.py").write_text('"""Its own."""\n\nUSAGE = __doc__\n')
    assert bench.wheelhouse(bench.root / "house").code == 0
    assert bench.deb(bench.root / "out").code == 0
    (deb,) = (bench.root / "out").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, bench.root / "tree"], check=True)
    argv = [sys.executable, "-S", "-c", ASKED]
    env = {**os.environ, "PYTHONPATH": str(bench.root / "tree/usr/lib/skerry")}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd="/", check=True)
    docs, returned, said = json.loads(done.stdout)
    assert docs == [None, None, None, None, "Of a dataclass: it would make one up.", "Its own."]
    line = DOCUMENTED.splitlines().index('    assert __debug__ and False, "checked"') + 1
    assert (returned, said) == (None, ["checked", line])


@needs_tools
def test_what_has_an_unstripped_or_foreign_file_is_no_tree_for_a_target(bench: Bench) -> None:
    ran = bench.run("check_elf.py", "--tree", bench.root)
    assert (ran.code, "x.so: symbols: found" in ran.said) == (2, True)
    arm = (CROSS / "targets/armhf-bookworm.toml").read_text()
    (bench.root / "here.toml").write_text(arm)
    ran = bench.run("check_elf.py", "--tree", bench.root)
    assert (ran.code, ran.said) == (2, "x.so: machine: found x86_64, wanted armv7l\n")


@needs_tools
def test_a_foreign_a_changed_and_an_unlocked_wheel_are_each_named(bench: Bench) -> None:
    (good,) = (bench.root / "wheels").iterdir()
    with zipfile.ZipFile(good, "a") as archive:
        archive.writestr("other/more.py", "")
    assert "sha256: found" in bench.wheelhouse(bench.root / "house").said
    foreign = good.with_name(good.name.replace("x86_64", "aarch64"))
    good.rename(foreign)
    assert f"{foreign.name}: platform: found manylinux_2_17_aarch64" in bench.wheelhouse(bench.root / "house").said
    foreign.rename(good.with_name("stray-2.0-py3-none-any.whl"))
    ran = bench.wheelhouse(bench.root / "house")
    assert ran.code == 2
    assert "stray-2.0-py3-none-any.whl: lock: found stray 2.0" in ran.said
    assert "lock: other: found no wheel, wanted one of 1.0" in ran.said
    assert not (bench.root / "house").exists()


@needs_tools
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("${python3:Depends}", "${misc:Depends}", "${misc:Depends}: found an unknown variable"),
        ("${shlibs:Depends}", "libc6", "Depends: found no ${shlibs:Depends}"),
        ("Package: skerry", "Package: other", "Package: found other, wanted skerry"),
    ],
)
def test_a_control_file_that_cannot_be_filled_is_refused(bench: Bench, old: str, new: str, said: str) -> None:
    control = bench.root / "packaging/debian/control"
    control.write_text(control.read_text().replace(old, new))
    assert bench.wheelhouse(bench.root / "house").code == 0
    ran = bench.deb(bench.root / "out")
    assert (ran.code, said in ran.said) == (2, True), ran.said
    assert not (bench.root / "out").exists()


@needs_tools
@pytest.mark.parametrize(
    ("files", "said"),
    [
        ('[[file]]\nsource = "gone"\npath = "/etc/x"\n', "gone: found no such file"),
        ('[[file]]\nsource = "c.toml"\npath = "etc/x"\n', "file 1: path"),
        ('[[file]]\nsource = "../c.toml"\npath = "/etc/x"\n', "file 1: source"),
        ('[[file]]\nsource = "c.toml"\npath = "/etc/x"\nmode = "9"\n', "file 1: mode"),
        ('[[file]]\nsource = "c.toml"\npath = "/etc/x"\nowner = "me"\n', "file 1: owner: found an unknown key"),
        ('[[file]]\nsource = "c.toml"\npath = "/usr/bin/skerry"\n', "two files for one place"),
    ],
)
def test_a_wrong_list_of_files_is_refused(bench: Bench, files: str, said: str) -> None:
    (bench.root / "packaging/files.toml").write_text(files)
    assert bench.wheelhouse(bench.root / "house").code == 0
    ran = bench.deb(bench.root / "out")
    assert (ran.code, said in ran.said) == (2, True), ran.said


@needs_tools
def test_a_package_above_its_size_and_a_python_of_another_version_are_refused(bench: Bench) -> None:
    assert bench.wheelhouse(bench.root / "house").code == 0
    assert "installed size: found" in bench.deb(bench.root / "out", "--size-max-mb", "0.01").said
    text = (bench.root / "here.toml").read_text().replace(f'"3.{sys.version_info[1]}"', '"3.99"')
    (bench.root / "here.toml").write_text(text)
    for file in (bench.root / "house/lib").rglob("*.so"):
        file.unlink()
    assert "--sysroot: found no usr/bin/python3.99" in bench.deb(bench.root / "out").said
    (bench.root / "sysroot/usr/bin/python3.99").symlink_to(Path(sys.executable).resolve())
    ran = bench.deb(bench.root / "out")
    assert f"--sysroot: found 3.{sys.version_info[1]}, wanted 3.99" in ran.said


@needs_tools
def test_without_byte_code_the_package_compiles_itself(bench: Bench) -> None:
    """Where no Python of the target can be had: Debian's own py3compile, at the place that the script gives it."""
    text = (bench.root / "here.toml").read_text().replace('sysroot = "amd64-bookworm"', 'sysroot = "amd64-trixie"')
    (bench.root / "here.toml").write_text(text)
    (bench.root / "packaging/debian/postinst").write_text("#!/bin/sh\nset -e\n#DEBHELPER#\nexit 0\n")
    assert bench.wheelhouse(bench.root / "house").code == 0
    assert bench.deb(bench.root / "out").code == 0
    (deb,) = (bench.root / "out").glob("*.deb")
    subprocess.run(["dpkg-deb", "-R", deb, bench.root / "tree"], check=True)
    assert (bench.root / "tree/usr/lib/skerry/lib/other/__init__.py").is_file()
    assert "py3compile -p skerry" in (bench.root / "tree/DEBIAN/postinst").read_text()
    assert "py3clean -p skerry" in (bench.root / "tree/DEBIAN/prerm").read_text()
