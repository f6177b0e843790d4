"""What the API is asked for while the hub is measured: `python -m bench.onto_all KUBECONFIG nodes|pods COUNT`.

`nodes` joins the devices of bench.crowd; `pods` makes a pod for each, as a DaemonSet's controller does, and waits until
the API shows them all running. Prints seconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any

from bench.crowd import name
from fleet import pod
from skerry_hub.join import join
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from skerry_hub.ports import PODS

AT_ONCE = 16
WAIT_S = 300.0


async def nodes(client: KubeClient, count: int) -> dict[str, float]:
    began = time.monotonic()
    await all_of(join(client, name(n)) for n in range(count))
    return {"created_s": time.monotonic() - began}


async def pods(client: KubeClient, count: int) -> dict[str, float]:
    began, version = time.monotonic(), (await client.list(PODS)).resource_version
    running: set[str] = set()

    async def watch() -> None:
        async for event in client.watch(PODS, version, timeout_s=WAIT_S):
            if (event.obj.get("status") or {}).get("phase") == "Running":
                running.add(event.obj["metadata"]["name"])
            if len(running) == count:
                return
        raise TimeoutError(f"{len(running)} of {count} pods ran in {WAIT_S:.0f} s")

    watching = asyncio.ensure_future(watch())
    await all_of(client.create(PODS, "default", pod(f"each-{n}", name(n))) for n in range(count))
    created = time.monotonic() - began
    await watching
    return {"created_s": created, "running_s": time.monotonic() - began}


async def all_of(work: Iterable[Coroutine[Any, Any, Any]]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(job: Coroutine[Any, Any, Any]) -> None:
        async with room:
            await job

    await asyncio.gather(*map(one, work))


async def main(kubeconfig: Path, what: str, count: int) -> None:
    async with KubeClient(load(kubeconfig)) as client:
        print(json.dumps(await {"nodes": nodes, "pods": pods}[what](client, count)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
