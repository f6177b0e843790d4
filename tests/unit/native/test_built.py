"""What the build makes of the hot paths: compiled where a compiler is, and without Python in their loops."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import skerry_native

ROOT = Path(__file__).resolve().parents[3]
NATIVE = ROOT / "native" / "skerry_native"
# The functions of each module that run over every byte or entry; the others are entered once per call or change.
HOT = {
    "packed": ("_place", "_alike", "_whole", "_end", "_order"),
    "wellformed": ("_value", "_children", "_utf8"),
}
CAN_BUILD = (
    (shutil.which("gcc") or shutil.which("cc")) is not None
    and (Path(sysconfig.get_paths()["include"]) / "Python.h").exists()
    and importlib.util.find_spec("Cython") is not None
)
LINE = re.compile(
    r'<pre class="cython line score-\d+"[^>]*>[^<]*<span class="">(\d+)</span>.*?</pre>'
    r"\s*(?:<pre class='cython code score-\d+ '>(.*?)</pre>)?",
    re.DOTALL,
)


def test_every_hot_path_has_types_and_is_built() -> None:
    listed = re.search(r"^HOT = \((.*)\)$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert listed is not None
    named = set(re.findall(r'"(\w+)"', listed[1]))
    assert named == set(HOT) == {p.stem for p in NATIVE.glob("*.pxd")}


@pytest.mark.skipif(not CAN_BUILD, reason="no compiler, no Python.h or no Cython")
@pytest.mark.parametrize("name", sorted(HOT))
def test_a_machine_with_a_compiler_runs_the_compiled_form(name: str) -> None:
    module = skerry_native.load(name, pure=False)
    assert skerry_native.compiled(module), f"{name} is interpreted: run tools/setup"


@pytest.mark.parametrize("name", sorted(HOT))
def test_skerry_pure_is_the_switch(name: str) -> None:
    code = f"import skerry_native as n; print(n.compiled(n.load({name!r})), n.load({name!r}).__name__)"
    env = {**os.environ, "SKERRY_PURE": "1"}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert told.split() == ["False", f"skerry_native.pure_{name}"]


@pytest.mark.skipif(not CAN_BUILD, reason="no compiler, no Python.h or no Cython")
@pytest.mark.parametrize("name", sorted(HOT))
def test_no_hot_function_calls_python(name: str, tmp_path: Path) -> None:
    """Every line of C that Cython makes of a hot function, by Cython's own annotation (`cython -a`): no call of
    Python's or Cython's API and no way out by an exception. Macros that read a bytes object's pointer are none."""
    calls = python_calls(name, tmp_path)
    assert calls == {}


def test_the_check_sees_python_where_it_is(tmp_path: Path) -> None:
    """Without its types the same module calls Python on nearly every line."""
    assert len(python_calls("wellformed", tmp_path, types=False)) > 20


def python_calls(name: str, folder: Path, types: bool = True) -> dict[int, set[str]]:
    """Line → what it calls of Python, for the hot functions of a module."""
    if importlib.util.find_spec("Cython") is None:
        pytest.skip("no Cython")
    package = folder / "skerry_native"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = package / f"{name}.py"
    shutil.copy(NATIVE / source.name, source)
    if types:
        shutil.copy(NATIVE / f"{name}.pxd", package)
    off = "boundscheck=False,wraparound=False,cdivision=True,annotation_typing=False"
    argv = [sys.executable, "-m", "cython", "-3", "-a", "-X", off, str(source)]
    subprocess.run(argv, check=True, capture_output=True, cwd=folder)
    spans = [(f.body[0].lineno, f.end_lineno or 0) for f in functions(source) if f.name in HOT[name]]
    found = {}
    for line, code in LINE.findall(source.with_suffix(".html").read_text()):
        names = set(re.findall(r"class='(?:py_c_api|pyx_c_api|error_goto)'>([^<]*)", code))
        if names and any(first <= int(line) <= last for first, last in spans):
            found[int(line)] = names
    return found


def functions(source: Path) -> list[ast.FunctionDef]:
    return [node for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)]
