"""What streams cost through the whole chain: client → API → kubelet endpoint → mosquitto → agent → container. And what
they cost everybody else: how long a change takes to a device's journal while ten of them are saturated.

One board, the real API, hub, agent, mosquitto and containerd on one machine, over mutual TLS and in protected frames.
Each figure takes turns with its peer.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from bench.dialer import BARE, BARE_DEVICE, BARE_HUB
from bench.fleets import weigh
from bench.report import Row, progress
from e2e.board import Board
from fleet import BIN, MQTTS_PORT, ROOT, Fleet, pod
from rig import Device, Process, until
from skerry.limits import STREAM_CHUNK_BYTES
from skerry.model.streams import Channel, Exec, Logs
from skerry.ports import Duplex
from skerry_hub import mosquitto, pki_files
from skerry_hub.enrolment.authority import NAME, STEM

NODE, POD, FORWARD_BUDGET, SYNC_BUDGET = "edge-1", "streaming", 0.5, 2.0
FAST_MBIT, USUAL_MBIT = 1_000, 100  # the fastest network card of a board; a usual one
SOURCE, SINK, ENDLESS = 7001, 7002, 7003
SATURATED = 10
BLOCK = 10_000  # bytes that the pod reads or writes at once
LINES, LINE = 20_000, "x" * 79  # with CRI's own prefix 2.4 MB: below the size at which a log is rotated


def rows(quick: bool = False) -> Iterator[Row]:
    rounds, size = (2, 10_000_000) if quick else (7, 40_000_000)
    with Fleet() as fleet:
        weigh(fleet)
        fleet.start()
        board = fleet.join(NODE)
        board.boot(network=True)
        board.start_agent()
        fleet.kubectl("wait", f"node/{NODE}", "--for=condition=Ready", "--timeout=90s")
        admit_bare(fleet)
        chain = Chain(fleet, board, size)
        chain.deploy()
        yield from chain.execs(rounds, 5 if quick else 10)
        yield from chain.forwards(rounds, 0)
        yield from chain.forwards(rounds, FAST_MBIT)
        yield from chain.logs(rounds)
        for mbit in (0, USUAL_MBIT):
            yield from chain.sync(1 if quick else 3, 60 if quick else 250, mbit)
        board.power_off()


class Chain:
    def __init__(self, fleet: Fleet, board: Device, size: int) -> None:
        self.fleet, self.board, self.size = fleet, board, size

    def deploy(self) -> None:
        """A pod with a source of `size` bytes, a sink that tells how many came, an endless source, and a long log; and
        one whose ConfigMap is changed."""
        ports = (
            (SOURCE, f"dd if=/dev/zero bs={BLOCK} count={self.size // BLOCK} 2>/dev/null"),
            (SINK, f"dd of=/dev/null bs={BLOCK} iflag=fullblock 2>&1"),
            (ENDLESS, "cat /dev/zero"),
        )
        listening = "; ".join(f"nc -ll -p {port} -e /bin/sh -c '{what}' &" for port, what in ports).replace("&;", "&")
        serve = f"trap 'exit 0' TERM; {listening} while :; do sleep 3600 & wait $!; done"
        talk = f"trap 'exit 0' TERM; yes {LINE} | head -n {LINES}; while :; do sleep 3600 & wait $!; done"
        containers = [
            {"name": name, "image": "rig.local/hello:1", "command": ["/bin/sh", "-c", script]}
            for name, script in (("serve", serve), ("talk", talk))
        ]
        holder = {"name": "config", "configMap": {"name": "pace"}}
        self.fleet.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pace"}, "data": {"turn": "0"}})
        self.fleet.apply(pod(POD, NODE, containers=containers), pod("pacer", NODE, volumes=[holder]))
        self.fleet.wait_phase(POD)
        self.fleet.wait_phase("pacer")
        until(self._listens, "the pod to listen")

    def _listens(self) -> bool:
        (sandbox,) = (box.pid for box in self.board.sandboxes() if box.pod == POD)
        heard = Path(f"/proc/{sandbox}/net/tcp").read_text() + Path(f"/proc/{sandbox}/net/tcp6").read_text()
        return all(f":{port:04X} 0000" in heard for port in (SOURCE, SINK, ENDLESS))

    def ask(self, *words: str | int) -> Any:
        """What bench.dialer printed for this."""
        return json.loads(self.fleet.site.run(self._argv(*words), 300.0, cwd_env()).stdout)

    def _argv(self, *words: str | int) -> list[str]:
        argv = [str(BIN / "python"), "-m", "bench.dialer", str(self.fleet.site.kubeconfig), *map(str, words)]
        return ["env", "-C", str(ROOT), *argv]

    def containers(self) -> dict[str, str]:
        return {c.name: c.id for c in self.board.containers() if c.pod == POD}

    # --- exec ---------------------------------------------------------------------------------------------------------

    def execs(self, rounds: int, each: int) -> Iterator[Row]:
        target, here, through = self.containers()["serve"], [], []
        self.ask("exec", POD, "serve", 2)
        for _ in range(rounds):
            through += self.ask("exec", POD, "serve", each)
            here += asyncio.run(local_execs(self.board, target, each))
        note = (
            f"`true`, median of {rounds * each}, taking turns in {rounds} rounds; one TLS connection and upgrade each"
        )
        peer = "by the adapter beside containerd"
        yield Row("streams", "exec through the chain", median(through) * 1e3, "ms", peer, median(here) * 1e3, note=note)
        more = (median(through) - median(here)) * 1e3
        yield Row("streams", "  of it the chain", more, "ms", "whole", median(through) * 1e3)

    # --- port-forward -------------------------------------------------------------------------------------------------

    def forwards(self, rounds: int, mbit: int) -> Iterator[Row]:
        """Beside what the same client library carries bare from the board's network to the broker and back out of it.
        Over a cable of so many Mbit/s, where not 0."""
        self.board.shape(mbit)
        down, up, bare = [], [], []
        for turn in range(rounds):
            progress(f"          port-forward{over(mbit)}, round {turn + 1} of {rounds}")
            down.append(self.ask("down", POD, SOURCE, self.size))
            bare.append(self.bare())
            up.append(self.ask("up", POD, SINK, self.size, f"{self.size // BLOCK}+0"))
        self.board.shape(0)
        each = f"{self.size / 1e6:.0f} MB in payloads of {STREAM_CHUNK_BYTES} B"
        note = f"median of {rounds} alternating rounds of {each}"
        peer = f"bare publishes{over(mbit)}"
        name = f"port-forward{over(mbit)}"
        for way, got in (("pod to client", down), ("client to pod", up)):
            yield Row("streams", f"{name}, {way}", median(got), "MB/s", peer, median(bare), "higher", note)
        ratio, aim = min(median(down), median(up)) / median(bare), "of the broker's own"
        yield Row("streams", f"{name}, slower way", ratio, aim, "budget", FORWARD_BUDGET, "higher")

    def bare(self) -> float:
        """MB/s of bare publishes from the board's network to a client beside the broker."""
        where = (self.fleet.address, MQTTS_PORT, self.board.ns.init_pid)
        argv = self._argv("bare", str(self.fleet.trust), *where, self.size)
        # In the network of the site, and where the board's can be found by its process.
        inside = self.fleet.site.ns.argv_inside(argv, network_only=True)
        env = {**os.environ, **cwd_env()}
        done = subprocess.run(inside, env=env, capture_output=True, text=True, timeout=300, check=True)
        return float(done.stdout)

    # --- logs ---------------------------------------------------------------------------------------------------------

    def logs(self, rounds: int) -> Iterator[Row]:
        target, here, through = self.containers()["talk"], [], []
        for _ in range(rounds):
            through.append(self.ask("logs", POD, "talk", LINES))
            here.append(asyncio.run(local_log(self.board, target)))
        note = f"{LINES} lines of {len(LINE) + 1} B, followed from the first; median of {rounds} alternating rounds"
        peer = "the adapter's own reader"
        yield Row("streams", "log -f", median(through), "lines/s", peer, median(here), "higher", note)

    # --- state beside streams -----------------------------------------------------------------------------------------

    def sync(self, rounds: int, changes: int, mbit: int) -> Iterator[Row]:
        """How long changes take, beside streams and without. Over a cable of so many Mbit/s, where not 0."""
        self.board.shape(mbit)
        idle, busy, carried = [], [], []
        self.pace(20)
        for turn in range(rounds):
            progress(f"          state beside streams{over(mbit)}, round {turn + 1} of {rounds}")
            idle += self.pace(changes)
            streaming, stop = self.saturate(f"{mbit}-{turn}")
            busy += self.pace(changes)
            stop()
            carried.append(sum(json.loads(streaming.log().splitlines()[-1])))
        self.board.shape(0)
        note = f"of {rounds * changes} changes each, in turns; the streams carried {median(carried):.1f} MB/s in all"
        name = f"change → journaled beside {SATURATED} saturated streams{over(mbit)}"
        yield Row("streams", f"{name}, median", median(busy) * 1e3, "ms", "idle", median(idle) * 1e3, note=note)
        late, early = (quantiles(took, n=100)[98] * 1e3 for took in (busy, idle))
        yield Row("streams", f"{name}, p99", late, "ms", "idle", early, note=note)
        yield Row("streams", "  the same", late / early, "of idle", "budget", SYNC_BUDGET)

    def pace(self, count: int) -> list[float]:
        """Seconds from a patch of the ConfigMap to the board's journal, for each of `count`."""
        argv = [str(BIN / "python"), "-m", "fleet.pace", str(self.fleet.site.kubeconfig)]
        words = ["env", "-C", str(ROOT / "tests"), *argv, str(self.board.journal_path), str(count)]
        took: list[float] = json.loads(self.fleet.site.run(words, timeout_s=300).stdout)
        return took

    def saturate(self, turn: str) -> tuple[Process, Any]:
        """Ten endless downloads, under way; and what ends them."""
        stop = self.fleet.site.folder / f"stop-{turn}"
        argv = self._argv("saturate", POD, ENDLESS, SATURATED, str(stop))
        process = self.fleet.site.spawn(argv, name="saturate", env=cwd_env())
        process.wait_log("busy", 120.0)

        def end() -> None:
            stop.touch()
            process.wait()

        return process, end


def over(mbit: int) -> str:
    return f" over {mbit} Mbit/s" if mbit else ""


def admit_bare(fleet: Fleet) -> None:
    """Two more clients of the fleet's broker, with certificates: a device and a hub, for bare publishes."""
    assert fleet.broker is not None
    authority = pki_files.authority(fleet.trust, STEM, NAME)
    for stem, name in ((BARE_DEVICE, BARE), (BARE_HUB, mosquitto.hub_names(BARE)[0])):
        pki_files.pair(fleet.trust, stem, authority, name, (), ())
    hubs = [*mosquitto.hub_names(), mosquitto.hub_names(BARE)[0]]
    (fleet.trust / "rules").write_text(mosquitto.rules(hubs))
    os.kill(fleet.broker.pid, signal.SIGHUP)


def cwd_env() -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT / "tests")}


async def local_execs(device: Device, container: str, count: int) -> list[float]:
    """Seconds of each `true` by the adapter alone, until its exit status is here."""
    board, took = Board(device), []
    runtime = board.runtime()
    try:
        for turn in range(count + 1):
            began = time.perf_counter()
            stream = await runtime.exec(container, Exec("default", POD, "serve", ("true",)))
            told = [piece async for piece in pieces(stream)]
            if turn:  # the first connects
                took.append(time.perf_counter() - began)
            assert any(p.channel is Channel.ERROR and b'"Success"' in p.data for p in told), told
            await stream.close()
    finally:
        await board.close()
    return took


async def local_log(device: Device, container: str) -> float:
    """Lines per second of the log that the agent keeps, by the adapter alone."""
    board = Board(device)
    board.logs = device.disk / "log"
    runtime, seen = board.runtime(), 0
    try:
        await runtime.look()
        began = time.perf_counter()
        stream = await runtime.logs(container, Logs("default", POD, "talk", follow=True))
        while seen < LINES:
            piece = await stream.read()
            assert piece is not None
            seen += piece.data.count(b"\n")
        took = time.perf_counter() - began
        await stream.close()
    finally:
        await board.close()
    return LINES / took


async def pieces(stream: Duplex) -> Any:
    while (piece := await stream.read()) is not None:
        yield piece
