"""Targets: read whole or refused whole, each wrong key by its name; what a wheel or an ELF file says against them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import check_elf
import elf
import pytest
import sdist_wheel
import target
import wheelhouse
from refusal import Refusal, Refusals

TARGETS = Path(__file__).parents[2] / "cross-build/targets"
ARM = (TARGETS / "armhf-bookworm.toml").read_text()
HEADER = "  Class: ELF32\n  Machine:                           ARM\n  Flags: 0x5000400, Version5 EABI, hard-float ABI\n"
HOT = elf.described(HEADER)


def test_each_target_is_twelve_lines_and_reads() -> None:
    files = sorted(TARGETS.glob("*.toml"))
    assert {f.stem for f in files} >= {"aarch64-bookworm", "aarch64-trixie", "aarch64-jammy", "armhf-bookworm"}
    for file in files:
        read = target.read(file)
        assert file.stem.endswith("-" + read.suite)
        for other in (target.read(TARGETS / f"{name}.toml") for name in (read.abi3, read.sysroot)):
            assert other.arch == read.arch
        assert len(file.read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("mcpu", "cpu", "cpu"),
        ("mcpu", "cpu", "mcpu"),
        ('"3.11"', "3.11", "python"),
        ('"hard"', '"firm"', "float_abi"),
        ('"neon"', '"sse"', "features_forbidden"),
        ("2.31", "2.99", "glibc_min"),
        ('sysroot = "armhf-bookworm"', 'sysroot = "armhf"', "sysroot"),
        ("arch =", "arch", "TOML"),
    ],
)
def test_a_wrong_target_names_the_key(old: str, new: str, key: str) -> None:
    assert old in ARM
    with pytest.raises((Refusal, Refusals)) as why:
        target.parsed("x.toml", ARM.replace(old, new))
    wrong: Exception = why.value
    refusals = wrong.all_of_them if isinstance(wrong, Refusals) else [r for r in [wrong] if isinstance(r, Refusal)]
    assert key in {refusal.field for refusal in refusals}
    assert all(refusal.file == "x.toml" and refusal.wanted for refusal in refusals)


@pytest.mark.parametrize(
    ("file", "field"),
    [
        ("uvloop-0.23.0-cp311-cp311-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", None),
        ("protobuf-7.36.2-cp310-abi3-manylinux2014_aarch64.whl", None),
        ("paho_mqtt-2.2.0-py3-none-any.whl", None),
        ("uvloop-0.23.0-cp313-cp313-manylinux2014_aarch64.whl", "Python"),
        ("x-1-cp312-abi3-manylinux2014_aarch64.whl", "Python"),
        ("uvloop-0.23.0-cp311-cp311-manylinux2014_x86_64.whl", "platform"),
        ("x-1-cp311-cp311-manylinux_2_39_aarch64.whl", "platform"),
        ("x-1-cp311-cp311-musllinux_1_2_aarch64.whl", "platform"),
    ],
)
def test_a_wheel_is_judged_by_its_tags(file: str, field: str | None) -> None:
    wrong = wheelhouse.judged(wheelhouse.named(file), target.read(TARGETS / "aarch64-bookworm.toml"))
    assert [refusal.field for refusal in wrong] == ([] if field is None else [field])


FITS = (
    "Tag_CPU_arch: v7\n  Tag_FP_arch: VFPv3-D16\n  Tag_ABI_VFP_args: VFP registers\n"
    "  0x0000: Rev: 1  Flags: none  Index: 0  Name: GLIBC_2.4\n"
)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (HEADER + FITS, []),
        (HEADER.replace(", hard-float ABI", ", soft-float ABI") + "Tag_CPU_arch: v7\n", ["float ABI"]),
        (HEADER + FITS.replace("VFPv3-D16", "VFPv3"), ["CPU feature"]),
        (HEADER + FITS + "  Tag_Advanced_SIMD_arch: NEONv1\n", ["CPU feature"]),
        (HEADER + FITS.replace("arch: v7", "arch: v8"), ["CPU feature"]),
        (HEADER + FITS.replace("GLIBC_2.4", "GLIBC_2.38"), ["glibc"]),
        (HEADER + FITS + " 0x000000000000001d (RUNPATH)  Library runpath: [$ORIGIN/../x.libs]\n", ["run path"]),
        (HEADER + FITS + "  [27] .symtab           SYMTAB\n", ["symbols"]),
        (HEADER.replace("ARM", "AArch64"), ["machine"]),
    ],
)
def test_an_elf_file_is_judged_by_what_it_says(text: str, fields: list[str]) -> None:
    wrong = check_elf.judged("x.so", elf.described(text), target.read(TARGETS / "armhf-bookworm.toml"))
    assert [refusal.field for refusal in wrong] == fields


def test_glibc_versions_are_numbers() -> None:
    assert elf.described(HEADER + "Name: GLIBC_2.9\nName: GLIBC_2.17\nName: GLIBC_2.4\n").glibc == (2, 17)


def test_a_module_for_another_python_is_refused_by_its_name() -> None:
    here = target.read(TARGETS / "armhf-bookworm.toml")
    fits = elf.described(HEADER + FITS)
    assert check_elf.judged("lib/_cbor2.cpython-311-arm-linux-gnueabihf.so", fits, here) == []
    (wrong,) = check_elf.judged("lib/_cbor2.cpython-313-arm-linux-gnueabihf.so", fits, here)
    assert (wrong.field, wrong.found, wrong.wanted) == ("Python", "3.13", "3.11")


def test_what_tools_are_told_follows_from_the_target() -> None:
    arm, jammy = target.read(TARGETS / "armhf-bookworm.toml"), target.read(TARGETS / "aarch64-jammy.toml")
    assert (arm.zig, arm.platform_tag) == ("arm-linux-gnueabihf.2.31", "manylinux_2_31_armv7l")
    assert (arm.deb_arch, arm.has_python) == ("armhf", True)
    assert (jammy.deb_arch, jammy.has_python) == ("arm64", False)  # Debian has no Python 3.10


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def test_a_wheel_built_here_forgets_where() -> None:
    """lmdb writes absolute paths into a module; the record of the wheel stays right."""
    made = []
    for place in ("/tmp/one", "/tmp/another"):
        text = f"PLACE = '{place}/x.c'\n".encode()
        record = sdist_wheel.recorded("lmdb/_config.py", text) + b"\n"
        wheel = zipped({"lmdb/_config.py": text, "lmdb-3.0.0.dist-info/RECORD": record})
        made.append(sdist_wheel.placeless(wheel, Path(place)))
    assert made[0] == made[1]
    with zipfile.ZipFile(io.BytesIO(made[0])) as archive:
        text = archive.read("lmdb/_config.py")
        assert text == b"PLACE = '/source/x.c'\n"
        assert archive.read("lmdb-3.0.0.dist-info/RECORD") == sdist_wheel.recorded("lmdb/_config.py", text) + b"\n"


def test_a_place_in_machine_code_is_refused() -> None:
    wheel = zipped({"x.so": b"\x7fELF /tmp/one/x.c", "x.dist-info/RECORD": b""})
    with pytest.raises(Refusal, match=r"x\.so: path"):
        sdist_wheel.placeless(wheel, Path("/tmp/one"))
