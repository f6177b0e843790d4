"""How long a change takes from the API to a device's journal: `python -m fleet.pace KUBECONFIG JOURNAL COUNT`.

Changes one ConfigMap that the device holds, over one kept connection, and watches the journal on disk for the new
generation. Prints the seconds of each change as one JSON list.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from skerry.journal.record import DESIRED
from skerry.wire.codec import decode
from skerry.world.store import LmdbReader, open_reader
from skerry_hub.kube.client import KubeClient
from skerry_hub.kube.config import load
from skerry_hub.ports import CONFIG_MAPS

NAME, TIMEOUT_S, POLL_S = "pace", 30.0, 0.0005


def generation(reader: LmdbReader) -> int:
    head = reader.get(DESIRED)
    return int(decode(head)[4]) if head else 0


async def main(kubeconfig: Path, journal: Path, count: int) -> None:
    reader, took = open_reader(journal), []
    try:
        async with KubeClient(load(kubeconfig)) as client:
            for i in range(count):
                before, began = generation(reader), time.perf_counter()
                await client.patch(CONFIG_MAPS, "default", NAME, {"data": {"turn": f"{began}-{i}"}})
                while generation(reader) == before:
                    if time.perf_counter() - began > TIMEOUT_S:
                        raise TimeoutError(f"change {i} was not journaled in {TIMEOUT_S} s")
                    await asyncio.sleep(POLL_S)
                took.append(time.perf_counter() - began)
    finally:
        reader.close()
    print(json.dumps(took))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
