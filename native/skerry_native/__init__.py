"""Hot paths of skerry: ordinary Python, compiled by Cython where a compiler was at hand.

A module X is X.py, with its C types beside it in X.pxd. `load` gives the compiled one unless there is none or
SKERRY_PURE is set in the environment; both are run by the same tests.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path
from types import ModuleType


def load(name: str, pure: bool) -> ModuleType:
    """The module `name`: interpreted if `pure`, else compiled if it can be. Raises ImportError if there is no such."""
    if not pure:
        return importlib.import_module(f"{__name__}.{name}")
    full = f"{__name__}.pure_{name}"
    if full not in sys.modules:
        path = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(full, path, loader=SourceFileLoader(full, str(path)))
        if spec is None or spec.loader is None:
            raise ImportError(f"no module {name}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[full] = module
    return sys.modules[full]


def compiled(module: ModuleType) -> bool:
    """Whether a module that `load` gave is machine code."""
    return isinstance(getattr(module, "__loader__", None), ExtensionFileLoader)
