"""Run skerry or skerry-hub in this process with a profile or with time stamps; an argv for the rig, not a tool.

`python -m bench.traced profile FILE agent run --config F` writes cProfile's statistics at the end (SIGTERM).
`python -m bench.traced stamps FILE hub run …` appends lines "SECONDS WHAT" of the wall clock while it runs.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PYCACHE = ROOT / "build" / "pycache"
# What is stamped when it begins and ends: (module, class, method) → word.
AGENT = {
    ("skerry.world.link", "MqttLink", "recv"): "frame",
    ("skerry.journal.journal", "Journal", "apply"): "apply",
    ("skerry.containerd.adapter", "Containerd", "look"): "look",
    ("skerry.containerd.adapter", "Containerd", "image_present"): "image",
    ("skerry.containerd.adapter", "Containerd", "run_pod_sandbox"): "sandbox",
    ("skerry.containerd.adapter", "Containerd", "create_container"): "create",
    ("skerry.containerd.adapter", "Containerd", "start_container"): "start",
    ("skerry.containerd.adapter", "Containerd", "remove_pod_sandbox"): "unsandbox",
    ("skerry.world.store", "LmdbStore", "commit"): "commit",
}
HUB = {
    ("skerry_hub.cloudhub.mqtt", "MqttBroker", "publish"): "send",
    ("skerry_hub.kube.client", "KubeClient", "patch"): "patch",
}


def argv(how: str, out: Path, which: str, *args: str) -> list[str]:
    """What to start instead of skerry (`which` agent) or skerry-hub."""
    # As installed, modules come from .pyc files, which are kept out of the work tree, whoever set
    # PYTHONDONTWRITEBYTECODE; and no import hooks of an editable installation cost time at the start.
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = importlib.util.find_spec("grpclib")
    assert packages is not None
    assert packages.origin is not None
    paths = [ROOT, ROOT / "agent", ROOT / "native", ROOT / "hub", Path(packages.origin).parents[1]]
    env = ["-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={PYCACHE}", f"PYTHONPATH={':'.join(map(str, paths))}"]
    return ["env", *env, str(python), "-m", "bench.traced", how, str(out), which, *args]


def main() -> int:
    how, out, which, *args = sys.argv[1:]
    cli = "skerry.cli" if which == "agent" else "skerry_hub.cli"
    if how == "profile":
        import cProfile

        run = importlib.import_module(cli).main
        profile = cProfile.Profile(time.thread_time)  # waiting is not counted
        try:
            return int(profile.runcall(run, args))
        finally:
            profile.dump_stats(out)
    with Path(out).open("a", buffering=1) as file:
        _line(file, "began")
        sys.meta_path.insert(0, Stamper(AGENT if which == "agent" else HUB, file))
        if which == "hub":
            _stamp_informer(file)
        return int(importlib.import_module(cli).main(args))


class Stamper:
    """Wraps coroutine methods so that each call writes two lines, when their module is imported: what is imported late
    stays late. AttributeError if one was renamed."""

    def __init__(self, methods: dict[tuple[str, str, str], str], file: Any) -> None:
        self._methods, self._file = methods, file

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in {m for m, _, _ in self._methods} else None
        if spec is not None and spec.loader is not None:
            inner = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                inner(module)
                self._stamp(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _stamp(self, module: ModuleType) -> None:
        for (of, kind, name), word in self._methods.items():
            if of == module.__name__:
                owner = getattr(module, kind)
                setattr(owner, name, _wrapped(getattr(owner, name), word, self._file))


def _wrapped(inner: Callable[..., Any], word: str, file: Any) -> Callable[..., Any]:
    @functools.wraps(inner)
    async def outer(*args: Any, **kwargs: Any) -> Any:
        _line(file, f"{word}>")
        try:
            return await inner(*args, **kwargs)
        finally:
            _line(file, f"{word}<")

    return outer


def _stamp_informer(file: Any) -> None:
    """When the hub hears of an object from the API."""
    from skerry_hub.kube.informer import Informer

    inner = Informer._take

    def take(self: Any, event: Any) -> Any:
        _line(file, "heard")
        return inner(self, event)

    Informer._take = take  # type: ignore[method-assign]


def _line(file: Any, what: str) -> None:
    file.write(f"{time.time():.6f} {what}\n")


if __name__ == "__main__":
    sys.exit(main())
