"""A hub's stream to a device and back through a real mosquitto: the device's loop on one side, the hub's on the other.
What the stream reaches is a process of this machine, behind the Duplex that a runtime would give."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from contract.broker import Broker as Mosquitto
from skerry.errors import StreamBroken
from skerry.limits import STREAM_WINDOW_BYTES
from skerry.loops.report import Counters
from skerry.loops.streams import Dials, streams_loop
from skerry.model.streams import Channel, CloseCode, Exec, Logs, Piece, StreamRequest
from skerry.mux import StreamCounts
from skerry.ports import Duplex
from skerry.wire.guard import SEALED, Secrets
from skerry.world.clock import SystemClock
from skerry.world.entropy import SystemEntropy
from skerry.world.link import MqttStreamLink, streams_down_topic, streams_up_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions
from skerry.world.sodium import Sodium
from skerry_hub.cloudhub.mqtt import MqttBroker
from skerry_hub.cloudhub.protect import StreamFrames
from skerry_hub.cloudhub.streams import DeviceStreams
from skerry_hub.crypto import OpenSsl

WAIT_S = 30.0


class ProcessDuplex:
    """A local process behind a Duplex: STDIN in, STDOUT out, over when it ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def read(self) -> Piece | None:
        assert self.process.stdout is not None
        data = await self.process.stdout.read(1 << 16)
        return Piece(Channel.STDOUT, data) if data else None

    async def write(self, piece: Piece) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(piece.data)
        await self.process.stdin.drain()
        if piece.end:
            self.process.stdin.close()

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


class Opener:
    """In place of loops.streams.Targets."""

    def __init__(self) -> None:
        self.made: list[ProcessDuplex] = []

    async def open(self, request: StreamRequest) -> Duplex:
        if not isinstance(request, Exec):
            raise StreamBroken(CloseCode.NOT_FOUND, 'pod "web" does not exist on this device')
        pipe = asyncio.subprocess.PIPE
        made = ProcessDuplex(await asyncio.create_subprocess_exec(*request.command, stdin=pipe, stdout=pipe))
        self.made.append(made)
        return made


class Slashing(MqttBroker):
    """As RabbitMQ: a topic comes back with `/` for `.`."""

    async def connect(self, deliver: Callable[[str, bytes], None]) -> None:
        await super().connect(lambda topic, payload: deliver(topic.replace(".", "/"), payload))


class Site:
    """One device and one hub; `secrets` are what both know of a session where frames are protected."""

    def __init__(self, broker: Mosquitto, protected: bool, slashing: bool) -> None:
        self.port = broker.port
        options = MqttOptions("127.0.0.1", broker.port, "pi-7")
        self.dials, self.opener, self.counters, self.log = Dials(), Opener(), Counters(), list[str]()
        self.there = True
        link = MqttStreamLink("pi-7", options)
        self.device_counts = StreamCounts()
        loop = streams_loop(self.dials, link, self.opener, SystemClock(), self._say, self.counters, self.device_counts)
        self.device = asyncio.ensure_future(loop)
        hub_options = MqttOptions("127.0.0.1", broker.port, "hub.streams")
        self.secrets = Secrets(Sodium(), bytes(32), bytes(32)) if protected else None
        theirs = Secrets(OpenSsl(), bytes(32), bytes(32))
        frames_of = (lambda node, epoch: StreamFrames(epoch, lambda: theirs)) if protected else None
        to_broker = (Slashing if slashing else MqttBroker)(hub_options)
        self.hub = DeviceStreams(to_broker, self._dial, SystemEntropy(), self._say, frames_of)

    def _say(self, line: str) -> None:
        self.log.append(line)

    def _dial(self, node: str, epoch: bytes) -> bool:
        if self.there and node == "pi-7":
            self.dials.put(epoch, self.secrets)
        return self.there

    async def exec(self, *command: str) -> Duplex:
        request = Exec("default", "web", "app", command, stdin=True)
        return await asyncio.wait_for(self.hub.open("pi-7", request), WAIT_S)

    async def close(self) -> None:
        await self.hub.close()
        self.device.cancel()
        await asyncio.gather(self.device, return_exceptions=True)


@pytest.fixture(params=["in clear", "protected", "slashes for dots"])
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    broker = Mosquitto(tmp_path)
    made = Site(broker, request.param != "in clear", request.param == "slashes for dots")
    yield made
    await made.close()
    broker.stop()


async def take(stream: Duplex) -> Piece | None:
    return await asyncio.wait_for(stream.read(), WAIT_S)


async def until(what: Callable[[], bool]) -> None:
    async def poll() -> None:
        while not what():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(poll(), WAIT_S)


async def test_a_stream_reaches_the_process_and_its_end_comes_back(site: Site) -> None:
    stream = await site.exec("cat")
    await stream.write(Piece(Channel.STDIN, b"through NAT", end=True))
    assert await take(stream) == Piece(Channel.STDOUT, b"through NAT")
    assert await take(stream) is None
    with pytest.raises(StreamBroken, match="does not exist"):
        await site.hub.open("pi-7", Logs("default", "web"))


async def test_many_streams_carry_megabytes_at_once_and_none_is_mixed_up(site: Site) -> None:
    bodies = [hashlib.sha256(bytes([n])).digest() * 40_000 for n in range(4)]  # 1.3 MB each

    async def echo(body: bytes) -> bytes:
        stream = await site.exec("cat")
        writing = asyncio.ensure_future(stream.write(Piece(Channel.STDIN, body, end=True)))
        got = bytearray()
        while (piece := await take(stream)) is not None:
            got += piece.data
        await writing
        return bytes(got)

    assert await asyncio.wait_for(asyncio.gather(*(echo(body) for body in bodies)), 120) == bodies


async def test_a_stream_nobody_reads_stops_its_source_while_another_goes_on(site: Site) -> None:
    stuck = await site.exec("yes", "nobody reads this")
    other = await site.exec("cat")
    await asyncio.sleep(0.5)
    assert site.device_counts.bytes_out <= STREAM_WINDOW_BYTES
    await other.write(Piece(Channel.STDIN, b"still quick", end=True))
    assert await take(other) == Piece(Channel.STDOUT, b"still quick")
    await stuck.close(CloseCode.CANCELLED)
    await until(lambda: site.opener.made[0].process.returncode is not None)


async def test_whoever_goes_away_leaves_no_process_behind(site: Site) -> None:
    stream = await site.exec("sleep", "1000")
    await stream.close(CloseCode.CANCELLED, "kubectl went away")
    await until(lambda: site.opener.made[0].process.returncode is not None)
    await site.exec("sleep", "1000")
    site.dials.put(b"epoch-02")  # as a hub that was started again
    await until(lambda: site.opener.made[1].process.returncode is not None)


async def test_a_device_that_vanishes_ends_its_streams_at_the_hub_at_once(site: Site) -> None:
    stream = await site.exec("sleep", "1000")
    reading = asyncio.ensure_future(stream.read())
    site.device.cancel()  # its connection closes; a kill -9 would be told by the broker's will
    with pytest.raises(StreamBroken, match="the device closed its connection") as caught:
        await asyncio.wait_for(reading, WAIT_S)
    assert caught.value.code is CloseCode.LOST


async def test_what_others_say_on_a_streams_topic_is_counted_and_ends_nothing(site: Site) -> None:
    """The count stays when the streams end."""
    stream = await site.exec("cat")
    stranger = MqttConnection(MqttOptions("127.0.0.1", site.port, "stranger"))
    await stranger.connect()
    for payload in (b"", b"\xff\xff", SEALED, SEALED + bytes(100)):
        await stranger.publish(streams_up_topic("pi-7"), payload)
        await stranger.publish(streams_down_topic("pi-7"), payload)
    wrong = "malformed" if site.secrets is None else "unopened"
    await until(lambda: site.hub.snapshot()[wrong] == 4)
    await stream.write(Piece(Channel.STDIN, b"still here", end=True))
    assert await take(stream) == Piece(Channel.STDOUT, b"still here")
    await site.hub.close()
    assert site.hub.snapshot()[wrong] == 4
    if site.secrets is not None:
        assert site.counters["frames_refused"] == 4
    await stranger.close()


async def test_a_device_that_is_not_there_is_said_at_once(site: Site) -> None:
    site.there = False
    with pytest.raises(StreamBroken, match="device pi-7 is not connected") as caught:
        await site.exec("true")
    assert caught.value.code is CloseCode.LOST


async def test_the_connection_ends_soon_after_the_last_stream_and_the_next_opens_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skerry.loops.streams.STREAM_LINGER_S", 0.1)
    for _ in range(2):
        stream = await site.exec("true")
        assert await take(stream) is None
        await until(lambda: site.hub.snapshot()["lanes"] == 0)
    assert site.hub.snapshot()["opened"] == 2
