"""Run skerry or skerry-hub in this process with a profile or with time stamps; an argv for the rig, not a tool.

`python -m bench.traced profile FILE agent run --config F` writes cProfile's statistics at the end (SIGTERM).
`python -m bench.traced stamps FILE hub run …` appends lines "SECONDS WHAT" of the wall clock while it runs.
"""

from __future__ import annotations

import cProfile
import functools
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
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
    # As installed, modules come from .pyc files; kept out of the work tree, whoever set PYTHONDONTWRITEBYTECODE.
    env = ["-u", "PYTHONDONTWRITEBYTECODE", f"PYTHONPYCACHEPREFIX={PYCACHE}", f"PYTHONPATH={ROOT}"]
    return ["env", *env, sys.executable, "-m", "bench.traced", how, str(out), which, *args]


def main() -> int:
    how, out, which, *args = sys.argv[1:]
    run = importlib.import_module("skerry.cli" if which == "agent" else "skerry_hub.cli").main
    if how == "profile":
        profile = cProfile.Profile(time.thread_time)  # waiting is not counted
        try:
            return int(profile.runcall(run, args))
        finally:
            profile.dump_stats(out)
    with Path(out).open("a", buffering=1) as file:
        stamp(AGENT if which == "agent" else HUB, file)
        if which == "hub":
            _stamp_informer(file)
        _line(file, "began")
        return int(run(args))


def stamp(methods: dict[tuple[str, str, str], str], file: Any) -> None:
    """Wrap coroutine methods so that each call writes two lines. AttributeError if one was renamed."""
    for (module, kind, name), word in methods.items():
        owner = getattr(importlib.import_module(module), kind)
        setattr(owner, name, _wrapped(getattr(owner, name), word, file))


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
