"""Byte code that ships in the package, so that a board compiles nothing: not at installation, not at the first start.

Only the byte code stays, `x.pyc` in place of `x.py`, which saves a quarter of the package; the native modules keep
their source beside it, which is their pure form. Left out of it is what no run reads: docstrings, and the columns that
draw `^^^^` below a line of a traceback; asserts and line numbers stay. The compiler is the target's own Python, from
its sysroot under qemu-user; the package depends on that minor version.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from refusal import Refusal
from target import Target

# Runs in the target's Python. Unchecked (PEP 552): the interpreter never looks at the source's time, which a package
# cannot know. Docstrings stay where something may read them: in a module that says `__doc__`, and of classes with a
# decorator, since a dataclass without one works out a text of its own at each import.
_CHILD = """
import ast, importlib.util, json, marshal, sys

def stripped(tree):
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.ClassDef) and node.decorator_list:
            continue
        while node.body and ast.get_docstring(node, clean=False) is not None:
            doc = node.body.pop(0)
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.copy_location(ast.Pass(), doc)]
    return tree

if "%d.%d" % sys.version_info[:2] != sys.argv[1]:
    sys.exit("%d.%d" % sys.version_info[:2])
for source, made, name in json.load(sys.stdin):
    with open(source, "rb") as file:
        data = file.read()
    tree = ast.parse(data, name)
    code = compile(tree if b"__doc__" in data else stripped(tree), name, "exec", dont_inherit=True)
    head = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little") + importlib.util.source_hash(data)
    with open(made, "wb") as file:
        file.write(head + marshal.dumps(code))
"""


# The least processor that each target promises, so that what runs here needs no more. It is also the fast one: QEMU's
# default signs return addresses (PAC), which Debian 13 is built to ask for, and that takes seven times as long.
_QEMU = {
    "aarch64": ["qemu-aarch64-static", "-cpu", "cortex-a53"],
    "armv7l": ["qemu-arm-static", "-cpu", "cortex-a7,neon=off"],
    "x86_64": ["qemu-x86_64-static"],
}


def emulated(sysroot: Path, target: Target) -> list[str]:
    """The target's Python as a command, wherever it runs. Raises Refusal."""
    python = sysroot / f"usr/bin/python{target.python}"
    if not python.is_file():
        raise Refusal(str(sysroot), "--sysroot", f"no usr/bin/python{target.python}", "the Debian package of it")
    return [*_QEMU[target.arch], "-L", str(sysroot), str(python)]


def planned(files: Sequence[str], sourceless: Sequence[str], minor: int) -> list[tuple[str, str]]:
    """(source, byte code) for each .py of `files`; those below one of `sourceless` get the name that needs no source.
    """
    plan = []
    for file in sorted(files):
        path = Path(file)
        if path.suffix == ".py":
            beside = path.parent / "__pycache__" / f"{path.stem}.cpython-3{minor}.pyc"
            plan.append((file, str(path.with_suffix(".pyc") if below(path, sourceless) else beside)))
    return plan


def below(path: Path, folders: Sequence[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def compiled(root: Path, home: str, sourceless: Sequence[str], python: Sequence[str], target: Target) -> int:
    """Compile everything below `root`/`home` in place; the number of files. Raises Refusal, CalledProcessError.

    Names in tracebacks are those on the device.
    """
    files = [str(path.relative_to(root)) for path in (root / home).rglob("*.py")]
    plan = planned(files, sourceless, target.python_minor)
    for _, made in plan:
        (root / made).parent.mkdir(exist_ok=True)
    work = json.dumps([(str(root / source), str(root / made), f"/{source}") for source, made in plan])
    env = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    argv = [*python, "-IS", "-X", "no_debug_ranges", "-c", _CHILD, target.python]
    env.pop("SOURCE_DATE_EPOCH", None)
    done = subprocess.run(argv, input=work.encode(), env=env, capture_output=True, check=False)
    if done.returncode == 1 and done.stderr.strip().startswith(b"3."):
        raise Refusal(" ".join(python), "--sysroot", done.stderr.decode().strip(), target.python)
    done.check_returncode()
    for source, _ in plan:
        if below(Path(source), sourceless):
            (root / source).unlink()
    return len(plan)
