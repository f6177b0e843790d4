"""Hot paths of skerry: ordinary Python, compiled by Cython where a compiler was at hand.

A module X is X.py, with its C types beside it in X.pxd. `load` gives the compiled one unless there is none or
SKERRY_PURE is set in the environment: the one place where that is chosen. Both are run by the same tests.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

PURE = bool(os.environ.get("SKERRY_PURE"))


def load(name: str, pure: bool = PURE) -> ModuleType:
    """The module `name`: interpreted if `pure`, else compiled if it can be. Raises ImportError if there is no such."""
    if not pure:
        return importlib.import_module(f"{__name__}.{name}")
    full = f"{__name__}.pure_{name}"
    if full not in sys.modules:
        from importlib.machinery import SourceFileLoader
        from importlib.util import module_from_spec, spec_from_file_location

        path = f"{__path__[0]}/{name}.py"
        spec = spec_from_file_location(full, path, loader=SourceFileLoader(full, path))
        if spec is None or spec.loader is None:
            raise ImportError(f"no module {name}")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[full] = module
    return sys.modules[full]


def compiled(module: ModuleType) -> bool:
    """Whether a module that `load` gave is machine code."""
    return not str(module.__file__).endswith(".py")
