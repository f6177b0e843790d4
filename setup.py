"""Compile the hot paths where Cython and a compiler are at hand; without them the same .py files run as they are."""

from pathlib import Path

from setuptools import Extension, setup

HOT = ("packed", "wellformed")
FLAGS = ["-O3", "-g0", "-Wall", "-Werror", "-Wno-unreachable-code"]


def extensions() -> list[Extension]:
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []
    modules = [
        Extension(f"skerry_native.{name}", [f"native/skerry_native/{name}.py"], extra_compile_args=FLAGS, optional=True)
        for name in HOT
    ]
    Path("build").mkdir(exist_ok=True)
    # The .pxd alone gives types; indices are checked by the code itself, so the compiler need not.
    unchecked = dict.fromkeys(("boundscheck", "wraparound"), False)
    directives = {"language_level": 3, "annotation_typing": False, "cdivision": True, **unchecked}
    compiled: list[Extension] = cythonize(
        modules, build_dir="build/cython", compiler_directives=directives, annotate=True
    )
    return compiled


setup(ext_modules=extensions())
