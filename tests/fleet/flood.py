"""A hostile device, for tests on this machine only: `python -m fleet.flood HOST PORT NODE FRAMES_PER_S SECONDS`.

Speaks as NODE and says a new Hello, the dearest frame there is, in bursts; bounded in rate and time.
On SIGUSR1 it hangs: connected, neither reading nor writing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time

from skerry.errors import LinkLost
from skerry.wire.message import Hello, encode
from skerry.world.link import up_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions

RATE_MAX, SECONDS_MAX, BURST = 20_000, 300, 100


async def main(host: str, port: int, node: str, rate: int, seconds: float) -> None:
    connection = MqttConnection(MqttOptions(host=host, port=port, client_id=node, insecure=True))
    await connection.connect()
    print("flooding", flush=True)
    digest = bytes(16)
    loop = asyncio.get_running_loop()
    hang = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, hang.set)
    began, sent = loop.time(), 0
    with contextlib.suppress(LinkLost):
        while loop.time() - began < min(seconds, SECONDS_MAX) and not hang.is_set():
            for _ in range(BURST):
                hello = Hello(node, os.urandom(8), bytes(16), "boot", "", "", 0, 0, digest, 1, 1, 0, "flood")
                await connection.publish(up_topic(node), encode(hello), qos=0)
                sent += 1
            ahead = sent / min(rate, RATE_MAX) - (loop.time() - began)
            if ahead > 0:
                await asyncio.sleep(ahead)
    print(f"sent {sent}", flush=True)
    if hang.is_set():
        time.sleep(SECONDS_MAX)
    await connection.close()


if __name__ == "__main__":
    host, port, node, rate, seconds = sys.argv[1:]
    asyncio.run(main(host, int(port), node, int(rate), float(seconds)))
