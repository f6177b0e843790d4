"""Change objects through the API, one after the other: `python -m bench.changes KUBECONFIG COUNT NAME…` patches a label
of each pod in turn, COUNT times in all, and prints the seconds it took. Runs on the hub's side of the rig."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from skerry_hub.ports import PODS


async def change(kubeconfig: Path, count: int, names: list[str]) -> float:
    """Seconds for `count` patches, each answered by the API before the next."""
    async with KubeClient(load(kubeconfig)) as api:
        began = time.perf_counter()
        for i in range(count):
            patch = {"metadata": {"labels": {"change": str(i)}}}
            await api.patch(PODS, "default", names[i % len(names)], patch)
        return time.perf_counter() - began


if __name__ == "__main__":
    print(f"{asyncio.run(change(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])):.3f}")
