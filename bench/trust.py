"""What trust costs the device: memory of a connected agent with it and without, bytes of a connection, the child that
enrols; and of protected frames (bench.protection).

The agents run from a private interpreter and libraries (bench.footprint) on a real mosquitto, in turns, without a
runtime and without pods, so that the difference is TLS's. Bytes are counted between the two: TCP payload, both ways.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench import protection, seals
from bench.fleets import private_python
from bench.footprint import memory
from bench.report import Row, progress
from contract.broker import Broker, free_port
from contract.certificates import authority, credentials
from contract.enrolling import Hub, serving
from skerry.identity import TOKEN
from skerry.wire import token as tokens
from skerry.world.link import MqttLink
from skerry.world.mqtt_values import MqttOptions

NODE, SETTLE_S, ROUNDS = "edge-1", 20.0, 5
GROUP = "trust"
ENROLS = """
import sys
from skerry.world.enrolment import child
code = child(sys.argv[1], "")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
sys.exit(code)
"""


def rows(quick: bool = False) -> Iterator[Row]:
    yield from seals.rows(quick)
    yield from _connections()
    with tempfile.TemporaryDirectory(prefix="skerry-trust-", dir="/var/tmp") as name:
        folder = Path(name)
        python = folder / "python"
        python.mkdir()
        argv, rounds = private_python(python), 1 if quick else ROUNDS
        yield from protection.rows(argv[:-2], rounds)
        yield from _memory(argv, folder, 1.0 if quick else SETTLE_S, rounds)
        yield _child(folder)


# --- bytes ------------------------------------------------------------------------------------------------------------


def _connections() -> Iterator[Row]:
    """From the first byte to SUBACK; in clear, by a full handshake, by a resumed one."""
    plain, (full, resumed) = asyncio.run(_counted(False))[0], asyncio.run(_counted(True))
    what = "CONNECT to SUBACK, TCP payload"
    yield Row(GROUP, "bytes of a connection, full handshake", sum(full), "B", "in clear", sum(plain), "lower", what)
    note = f"{full[0]} B from the device and {full[1]} to it; resumed {resumed[0]} and {resumed[1]}"
    yield Row(GROUP, "bytes of a connection, resumed", sum(resumed), "B", "full", sum(full), "lower", note)


async def _counted(mutual: bool) -> list[tuple[int, int]]:
    """(device → broker, broker → device) of two connections, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder, port, found = Path(name), free_port(), [0, 0]
        broker = Broker(folder, mutual=authority() if mutual else None)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: int) -> None:
            while data := await source.read(65536):
                found[way] += len(data)
                sink.write(data)
            sink.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", broker.port)
            await asyncio.gather(pump(reader, back, 0), pump(there, writer, 1), return_exceptions=True)

        if mutual:
            broker.enrol(folder, NODE)
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        way = credentials(folder, NODE, port) if mutual else None
        link = MqttLink(NODE, MqttOptions("127.0.0.1", port, NODE), way)
        counts = []
        for _ in range(2):
            found[:] = [0, 0]
            await link.connect()
            counts.append((found[0], found[1]))
            await link.close()
        assert link.counts.resumed == (1 if mutual else 0)
        server.close()
        broker.stop()
        await asyncio.sleep(0.1)  # both ends of the pumps are gone
        return counts


# --- memory -----------------------------------------------------------------------------------------------------------


def _memory(argv: list[str], folder: Path, settle_s: float, rounds: int) -> Iterator[Row]:
    seen: dict[str, list[tuple[float, float]]] = {"in clear": [], "TLS": []}
    for _ in range(rounds):
        for how, figures in seen.items():
            with _agent(argv, folder / "run", how == "TLS") as pid:
                time.sleep(settle_s)
                figures.append(memory(pid, 5))
            progress(f"          {how}: PSS {figures[-1][0]:.2f} MiB")
    note = f"connected, no runtime, no pods; median of {rounds}, each after {settle_s:.0f} s"
    for number, name in enumerate(("PSS", "USS")):
        tls, clear = (median(figures[number] for figures in seen[how]) for how in ("TLS", "in clear"))
        yield Row(GROUP, f"agent {name} with TLS on both sides", tls, "MiB", "in clear", clear, "lower", note)


@contextmanager
def _agent(argv: list[str], folder: Path, mutual: bool) -> Iterator[int]:
    """The process id of an agent that is connected."""
    for part in ("broker", "data"):
        (folder / part).mkdir(parents=True)
    broker = Broker(folder / "broker", mutual=authority() if mutual else None)
    if mutual:
        broker.enrol(folder / "data", NODE)
    where = "" if mutual else f'node = "{NODE}"\nbroker = "mqtt://127.0.0.1:{broker.port}"\n'
    (folder / "config.toml").write_text(
        f'{where}data_dir = "{folder}/data"\nrun_dir = "{folder}/run"\nlog_dir = "{folder}/logs"\n'
        f'containerd_socket = "{folder}/none"\n'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*argv, "run", "--config", str(folder / "config.toml")], stderr=log)
    try:
        for _ in range(600):
            if b"link: connected" in (folder / "log").read_bytes():
                break
            time.sleep(0.1)
        else:
            raise AssertionError((folder / "log").read_text())
        yield process.pid
    finally:
        process.terminate()
        process.wait()
        broker.stop()
        shutil.rmtree(folder)


def _child(folder: Path) -> Row:
    """The agent's child that enrols."""
    with serving(folder / "hub") as hub:
        _give(hub, folder)
        argv = [sys.executable, "-c", ENROLS, str(folder)]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    note = "VmHWM of it, with openssl beside it for milliseconds; gone when it is done"
    return Row(GROUP, "peak RSS of the child that enrols", int(said.split()[-2]) / 1024, "MiB", "", None, "lower", note)


def _give(hub: Hub, folder: Path) -> None:
    (folder / TOKEN).write_text(tokens.encode(hub.token))
