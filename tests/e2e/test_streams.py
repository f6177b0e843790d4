"""The streams of containerd: contract.streams on the real one, and what only real processes show.

One board of the rig for the whole module; each test starts with no pods.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from contract.runtime import STUBBORN, clear, make_pod, make_spec, run, until_state
from contract.streams import (
    CAT,
    ECHO_PORT,
    ECHOING,
    StreamsContract,
    asking,
    attaching,
    command,
    feed,
    listening,
    told,
    until_told,
)
from e2e.board import Board
from rig import Device, until
from skerry.errors import RuntimeFailed
from skerry.limits import LOG_EXCESS_BYTES, LOG_RATE_BYTES_S, LOG_RENAMED_PARTS_MAX
from skerry.loops import rotate
from skerry.loops.report import Counters
from skerry.model.observed import ContainerState, PodSeen
from skerry.model.streams import Channel, Piece
from skerry.plan import logs as plan_logs
from skerry.ports import Duplex
from skerry.world import stats
from skerry.world.clock import SystemClock
from skerry.world.entropy import SystemEntropy
from skerry.world.log_lines import unix_ns
from unit.journal.memory_store import MemoryStore, opened

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("containerd"), reason="needs root and tools/setup"),
]
BULK_BYTES = 20 << 20
BURST_BYTES = 400_000_000
WAIT_S = 60.0


class TestContract(StreamsContract):
    pass


# --- attach -----------------------------------------------------------------------------------------------------------


async def test_attached_to_a_terminal_one_talks_to_the_shell_in_it(site: Board) -> None:
    runtime, pod = site.runtime(), make_pod()
    spec = replace(make_spec(site, ("/bin/sh",)), stdin=True, tty=True)
    _, container_id = await run(runtime, pod, spec)
    stream = await runtime.attach(container_id, attaching(stdin=True, tty=True))
    await stream.write(Piece(Channel.RESIZE, b'{"Width":101,"Height":37}'))
    await feed(stream, b"sleep 0.3; stty size; echo $((40 + 2))\n", end=False)
    shown = await until_told(stream, b"42\r\n")
    assert b"37 101\r\n" in shown
    await stream.close()
    again = await runtime.attach(container_id, attaching(stdin=True, tty=True))
    await feed(again, b"echo back $((40 + 3)); exit\n", end=False)
    out = await told(again)
    assert b"back 43\r\n" in out[Channel.STDOUT]
    await again.close()
    await until_state(runtime, pod, ContainerState.EXITED)


async def test_attached_without_a_terminal_the_streams_are_apart_and_stdin_has_an_end(site: Board) -> None:
    runtime, pod = site.runtime(), make_pod()
    script = "sleep 0.5; echo out; echo err >&2; cat; echo end"
    spec = replace(make_spec(site, ("/bin/sh", "-c", script)), stdin=True, stdin_once=True)
    _, container_id = await run(runtime, pod, spec)
    stream = await runtime.attach(container_id, attaching(stdin=True))
    await feed(stream, b"salt\n")
    out = await told(stream)
    assert (out[Channel.STDOUT], out[Channel.STDERR]) == (b"out\nsalt\nend\n", b"err\n")
    await stream.close()
    assert (await until_state(runtime, pod, ContainerState.EXITED)).exit_code == 0


async def test_bulk_through_an_attached_stream_is_unchanged(site: Board) -> None:
    runtime = site.runtime()
    _, container_id = await run(runtime, make_pod(), replace(make_spec(site, CAT), stdin=True))
    data = random.Random(8).randbytes(BULK_BYTES).replace(b"\n", b".")  # it goes to the log as well: in long lines
    stream = await runtime.attach(container_id, attaching(stdin=True))
    feeding = asyncio.ensure_future(feed(stream, data, end=False))
    out = bytearray()
    while len(out) < len(data):
        piece = await asyncio.wait_for(stream.read(), WAIT_S)
        assert piece is not None
        out += piece.data
    await feeding
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()
    await stream.close()


# --- port-forward -----------------------------------------------------------------------------------------------------


async def test_bulk_through_a_port_is_unchanged_both_ways_at_once(site: Board) -> None:
    runtime = site.runtime()
    sandbox_id, _ = await run(runtime, make_pod(), make_spec(site, ECHOING))
    probe = await listening(lambda: runtime.port_forward(sandbox_id, ECHO_PORT))
    await probe.close()
    data = random.Random(9).randbytes(BULK_BYTES)
    streams = [await runtime.port_forward(sandbox_id, ECHO_PORT) for _ in range(2)]

    async def echoed(stream: Duplex) -> bytes:
        feeding = asyncio.ensure_future(feed(stream, data))
        out = await told(stream)
        await feeding
        await stream.close()
        return hashlib.sha256(out[Channel.STDOUT]).digest()

    assert set(await asyncio.gather(*map(echoed, streams))) == {hashlib.sha256(data).digest()}


async def test_a_port_is_one_of_this_pod_and_of_its_loopback(site: Board) -> None:
    runtime = site.runtime()
    script = "mkdir /www; echo $0 > /www/index.html; exec httpd -f -p 127.0.0.1:8080 -h /www"
    boxes = []
    for name in ("ebb", "flow"):
        spec = make_spec(site, ("/bin/sh", "-c", script, name))
        boxes.append((await run(runtime, make_pod(), spec))[0])
    for sandbox_id, name in zip(boxes, ("ebb", "flow"), strict=True):
        stream = await listening(lambda box=sandbox_id: runtime.port_forward(box, 8080))  # type: ignore[misc]
        await feed(stream, b"GET / HTTP/1.0\r\n\r\n", end=False)
        assert (await told(stream))[Channel.STDOUT].endswith(b"\r\n\r\n%s\n" % name.encode())
        await stream.close()
    with pytest.raises(RuntimeFailed, match="localhost:8081 inside the pod: Connection refused"):
        await runtime.port_forward(boxes[0], 8081)


async def test_the_thread_that_went_to_another_network_came_back_to_nobody(site: Board) -> None:
    runtime = site.runtime()
    sandbox_id, _ = await run(runtime, make_pod(), make_spec(site, ECHOING))
    home = Path("/proc/self/ns/net").stat().st_ino
    await (await listening(lambda: runtime.port_forward(sandbox_id, ECHO_PORT))).close()

    def all_at_home() -> bool:
        return {(task / "ns/net").stat().st_ino for task in Path("/proc/self/task").iterdir()} == {home}

    await asyncio.to_thread(until, all_at_home, "the thread to end")


# --- logs -------------------------------------------------------------------------------------------------------------


async def test_every_option_of_a_log(site: Board) -> None:
    runtime, pod = site.runtime(), make_pod()
    script = "for n in 1 2 3; do echo line $n; done; sleep 1; echo $(head -c 40000 /dev/zero | tr '\\0' x); sleep 0.5"
    script += "; echo end >&2"
    _, container_id = await run(runtime, pod, make_spec(site, ("/bin/sh", "-c", script)))
    await until_state(runtime, pod, ContainerState.EXITED)

    async def shown(**how: Any) -> bytes:
        stream = await runtime.logs(container_id, asking(**how))
        out = (await told(stream)).get(Channel.STDOUT, b"")
        await stream.close()
        return out

    long = b"x" * 40_000 + b"\n"  # containerd tears it at 16 KiB
    assert await shown() == b"line 1\nline 2\nline 3\n" + long + b"end\n"
    assert await shown(tail_lines=2) == long + b"end\n"
    assert await shown(tail_lines=0) == b""
    assert await shown(limit_bytes=9) == b"line 1\nli"
    stamped = (await shown(timestamps=True)).splitlines()
    assert [line.split(b" ", 1)[1][:6] for line in stamped] == [b"line 1", b"line 2", b"line 3", b"xxxxxx", b"end"]
    assert all(len(line.split(b" ", 1)[0]) == 30 for line in stamped)
    after = unix_ns(stamped[2].split(b" ", 1)[0]) + 1
    assert await shown(since_unix_ns=after) == long + b"end\n"
    assert await shown(follow=True, tail_lines=1) == b"end\n"


async def test_a_log_is_followed_through_rotation_by_the_runtime(site: Board) -> None:
    runtime, pod = site.runtime(), make_pod()
    script = "n=0; while [ $n -lt 400 ]; do n=$((n + 1)); echo line $n; sleep 0.01; done; sleep 1"
    _, container_id = await run(runtime, pod, make_spec(site, ("/bin/sh", "-c", script)))
    stream = await runtime.logs(container_id, asking(follow=True))
    reading = asyncio.ensure_future(told(stream))
    (log,) = site.logs.glob(f"*_{pod.uid}/main/0.log")
    for _ in range(3):
        await asyncio.sleep(1)
        log.rename(f"{log}.1")
        await asyncio.sleep(0.2)
        await runtime.reopen_container_log(container_id)
    lines = (await asyncio.wait_for(reading, 60))[Channel.STDOUT].decode().splitlines()
    assert lines == [f"line {n + 1}" for n in range(400)]
    await stream.close()


async def test_the_loop_keeps_a_talkative_containers_log_within_its_bound(
    site: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_logs, "LOG_EXCESS_BYTES", LOG_RATE_BYTES_S // 5)  # it is looked at five times a second
    runtime, pod, bytes_max = site.runtime(), make_pod(), 200_000
    script = "n=0; while [ $n -lt 30000 ]; do n=$((n + 1)); echo line $n; done; sleep 2"
    _, container_id = await run(runtime, pod, make_spec(site, ("/bin/sh", "-c", script)))
    journal, said, counters = await opened(MemoryStore()), list[str](), Counters()

    def heard(line: str) -> None:
        said.append(line)

    journal.observe(None, await runtime.look())
    stream = await runtime.logs(container_id, asking(follow=True))
    loop = rotate.rotate_loop(runtime, journal, SystemClock(), SystemEntropy(), heard, counters, bytes_max)
    rotating = asyncio.ensure_future(loop)
    lines = (await told(stream))[Channel.STDOUT].decode().splitlines()
    rotating.cancel()
    assert said == []
    assert lines == [f"line {n + 1}" for n in range(30_000)]
    files = await runtime.log_files(container_id)
    assert set(files) <= {0, 1, 2}
    assert counters["log_rotations"] >= 1  # what was renamed may be gone: it is too much by itself on a slow machine
    await stream.close()


async def test_a_burst_after_silence_is_heard_and_stays_within_the_stated_bound(site: Board) -> None:
    runtime, pod, bytes_max, line = site.runtime(), make_pod(), 1 << 20, "x" * 1_000
    some = f"yes {line} | head -c {BURST_BYTES // 40}; sleep 0.1"  # 100 MB/s at most
    script = f"sleep 6; n=0; while [ $n -lt 40 ]; do n=$((n + 1)); {some}; done; sleep 3"
    _, container_id = await run(runtime, pod, make_spec(site, ("/bin/sh", "-c", script)))
    journal, said, counters = await opened(MemoryStore()), list[str](), Counters()
    journal.observe(None, await runtime.look())
    (log,) = site.logs.glob(f"*_{pod.uid}/main/0.log")

    def heard(line: str) -> None:
        said.append(line)

    loop = rotate.rotate_loop(runtime, journal, SystemClock(), SystemEntropy(), heard, counters, bytes_max)
    rotating = asyncio.ensure_future(loop)
    largest = 0
    while (await runtime.look(pod.uid))[pod.uid].containers[0].state is ContainerState.RUNNING:
        for _ in range(10):
            await asyncio.sleep(0.02)
            largest = max(largest, *(await runtime.log_files(container_id)).values(), 0)
    rotating.cancel()
    assert (said, counters["log_writes_heard"]) == ([], 1)
    assert counters["log_rotations"] >= 1
    assert bytes_max < largest <= bytes_max + LOG_EXCESS_BYTES
    assert sum(file.stat().st_size for file in log.parent.iterdir()) <= (1 + LOG_RENAMED_PARTS_MAX) * bytes_max


async def test_what_pods_use_is_what_their_control_groups_count(site: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "STATS_WINDOW_S", (0.5, 60.0))
    runtime, busy, idle = site.runtime(), make_pod(), make_pod()
    await run(runtime, busy, make_spec(site, ("/bin/sh", "-c", "while :; do :; done")))
    await run(runtime, idle, make_spec(site, STUBBORN))
    seen = await runtime.look()
    said = await summary_of(site, seen)
    pods = {pod["podRef"]["uid"]: pod for pod in said["pods"]}
    assert set(pods) == {busy.uid, idle.uid}
    for pod in pods.values():
        (container,) = pod["containers"]
        assert container["name"] == "main"
        assert 0 < container["memory"]["workingSetBytes"] <= pod["memory"]["workingSetBytes"] < 100 << 20
        assert container["cpu"]["usageCoreNanoSeconds"] <= pod["cpu"]["usageCoreNanoSeconds"]
    shares = [pods[pod.uid]["containers"][0]["cpu"]["usageNanoCores"] for pod in (busy, idle)]
    assert shares[0] > 10 * shares[1]
    assert said["node"]["memory"]["workingSetBytes"] > pods[busy.uid]["memory"]["workingSetBytes"]


async def summary_of(site: Board, seen: Mapping[str, PodSeen]) -> dict[str, Any]:
    """The numbers of the processes are this machine's, so they are looked up here and not on the board."""
    asked = stats.Stats("n1", "/skerry", lambda: seen, site.device.outside("/"), Path("/proc"))
    said: dict[str, Any] = json.loads((await told(await asked.open()))[Channel.STDOUT])
    return said


async def test_what_a_pod_sends_and_receives_is_counted_in_its_own_network(
    site: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats, "STATS_WINDOW_S", (0.1, 60.0))
    runtime, pod, idle = site.runtime(), make_pod(), make_pod()
    script = "gateway=$(ip route | awk '/default/ {print $3}'); "
    script += "while :; do ping -c 1 -W 1 -s 1000 $gateway; sleep 0.05; done"
    await run(runtime, pod, make_spec(site, ("/bin/sh", "-c", script)))
    await run(runtime, idle, make_spec(site, STUBBORN))
    seen = await runtime.look()

    async def network(uid: str) -> dict[str, Any]:
        pods = {one["podRef"]["uid"]: one for one in (await summary_of(site, seen))["pods"]}
        of_pod: dict[str, Any] = pods[uid]["network"]
        return of_pod

    before = await network(pod.uid)
    assert (before["name"], [one["name"] for one in before["interfaces"]][:1]) == ("eth0", ["eth0"])
    assert not [one for one in before["interfaces"] if one["name"] == "lo"]
    assert before["time"].endswith("Z")
    assert (before["rxErrors"], before["txErrors"]) == (0, 0)
    await asyncio.sleep(2)
    after = await network(pod.uid)
    assert after["txBytes"] - before["txBytes"] > 5_000
    assert after["rxBytes"] - before["rxBytes"] > 5_000
    quiet = await network(idle.uid)
    assert quiet["txBytes"] < after["txBytes"]


def test_streams_work_on_uvloop(device: Device) -> None:
    async def story() -> None:
        site = Board(device)
        runtime = site.runtime()
        sandbox_id, container_id = await run(runtime, make_pod(), make_spec(site, ECHOING))
        port = await listening(lambda: runtime.port_forward(sandbox_id, ECHO_PORT))
        exec_ = await runtime.exec(container_id, command(*CAT, stdin=True))
        data = random.Random(1).randbytes(1_000_000)
        for stream in (port, exec_):
            feeding = asyncio.ensure_future(feed(stream, data))
            assert (await told(stream))[Channel.STDOUT] == data
            await feeding
            await stream.close()
        following = await runtime.logs(container_id, asking(follow=True))
        attached = await runtime.attach(container_id, attaching())
        reading = [asyncio.ensure_future(stream.read()) for stream in (following, attached)]
        await asyncio.sleep(0.2)
        await following.close()
        await attached.close()
        assert await asyncio.gather(*reading) == [None, None]
        await clear(runtime)
        await site.close()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
