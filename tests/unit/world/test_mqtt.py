"""The MQTT connection against peers that a real broker never is: silent, hostile, vanishing, packing its records full.

tests/contract/test_link_real.py has the other half, on a real mosquitto.
"""

from __future__ import annotations

import asyncio
import random
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from contract.broker import self_signed
from patience import WAIT_S, until
from skerry.errors import ConfigInvalid, LinkLost
from skerry.limits import PACKET_BYTES_MAX
from skerry.world.dial import Dialer, refuse_insecure
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions

CONNACK = bytes([0x20, 3, 0, 0, 0])


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def publish(mid: int, payload: bytes, topic: bytes = b"t", qos: int = 1) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + (struct.pack(">H", mid) if qos else b"") + b"\0" + payload
    return bytes([0x30 | qos << 1]) + varint(len(body)) + body


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first, await reader.readexactly(length)


def options(port: int, **more: Any) -> MqttOptions:
    return MqttOptions("127.0.0.1", port, "c", **{"connect_timeout_s": 20, **more})


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder)
    return folder


async def longest_stall(until: Awaitable[object]) -> tuple[float, object]:
    """How long the loop was away while this ran, at worst."""
    worst, stop = 0.0, False

    async def tick() -> None:
        nonlocal worst
        while not stop:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            worst = max(worst, time.monotonic() - before - 0.001)

    ticker = asyncio.ensure_future(tick())
    result = (await asyncio.gather(until, return_exceptions=True))[0]
    stop = True
    await ticker
    return worst, result


@pytest.mark.parametrize("secure", [False, True])
async def test_a_silent_peer_neither_stalls_the_loop_nor_holds_connect(certificate: Path, secure: bool) -> None:
    from skerry.world import paho_client  # noqa: F401 - its import is not what is measured

    with socket.create_server(("127.0.0.1", 0)) as silent:
        tls = ssl.create_default_context(cafile=str(certificate / "cert.pem")) if secure else None
        stalls = []
        for _ in range(3):
            connection = MqttConnection(options(silent.getsockname()[1], tls=tls, connect_timeout_s=0.5))
            stall, result = await longest_stall(asyncio.wait_for(connection.connect(), WAIT_S))
            assert isinstance(result, LinkLost)
            stalls.append(stall)
        assert min(stalls) < 0.25, "the loop was held up each time, so it was not the machine"


async def test_a_look_up_that_hangs_is_left_behind_once(monkeypatch: pytest.MonkeyPatch) -> None:
    released, before = threading.Event(), set(threading.enumerate())

    def hang(*_args: object, **_more: object) -> object:
        released.wait(60)
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    dialer = Dialer("localhost", 1883)
    stalls = []
    for _ in range(3):
        stall, result = await longest_stall(dialer.dial(0.3))
        assert isinstance(result, LinkLost)
        stalls.append(stall)
    assert min(stalls) < 0.15, "the loop was held up each time, so it was not the machine"
    assert len(set(threading.enumerate()) - before) == 1
    released.set()
    await until(lambda: not set(threading.enumerate()) - before, "the thread to end")
    with pytest.raises(LinkLost, match="no such host"):
        await dialer.dial(20)


async def test_who_has_an_answer_may_dial_again_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialer = Dialer("localhost", server.getsockname()[1])
        for _ in range(100):
            (await dialer.dial(20)).close()


async def test_a_cancelled_connect_leaves_no_socket() -> None:
    opened, closed = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        opened.set()
        while await reader.read(100):
            pass
        closed.set()

    async with peer(script) as port:
        connection = MqttConnection(options(port))
        task = asyncio.ensure_future(connection.connect())
        await asyncio.wait_for(opened.wait(), WAIT_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(closed.wait(), WAIT_S)


async def test_all_packets_of_one_tls_record_are_delivered(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    count = 100

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK + b"".join(publish(number + 1, b"%d" % number) for number in range(count)))
        await asyncio.sleep(4 * WAIT_S)

    async with peer(script, tls) as port:
        client = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        connection = MqttConnection(options(port, tls=client, inbox_max=1000, manual_ack=True))
        await connection.connect()
        got = [(await asyncio.wait_for(connection.recv(), WAIT_S)).payload for _ in range(count)]
        assert got == [b"%d" % number for number in range(count)]
        await connection.close()


class CountingSelector(selectors.DefaultSelector):
    count = 0

    def select(self, timeout: float | None = None) -> Any:
        type(self).count += 1
        return super().select(timeout)


def test_an_idle_connection_wakes_for_keepalives_only() -> None:
    """For each keepalive the timer, the write and the answer, and the rest of the loop's own accounting."""
    pings: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        while True:
            first, body = await packet(reader)
            if first == 0xC0:
                pings.append(body)
                writer.write(b"\xd0\0")

    ready, enough, server_loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    port = 0

    def serve() -> None:
        async def main() -> None:
            nonlocal port
            async with peer(script) as port:
                ready.set()
                await enough.wait()

        server_loop.run_until_complete(main())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait()

    async def idle() -> tuple[int, int]:
        connection = MqttConnection(options(port, keepalive_s=1, ping_timeout_s=WAIT_S))
        await connection.connect()
        waiting = asyncio.ensure_future(connection.recv())
        await asyncio.sleep(0.1)
        before, pinged = CountingSelector.count, len(pings)
        await asyncio.sleep(2.5)
        woken, pinged = CountingSelector.count - before, len(pings) - pinged
        await connection.close()
        await asyncio.gather(waiting, return_exceptions=True)
        return woken, pinged

    loop = asyncio.SelectorEventLoop(CountingSelector())
    woken, pinged = loop.run_until_complete(idle())
    loop.close()
    server_loop.call_soon_threadsafe(enough.set)
    thread.join()
    assert pinged >= 1
    assert woken <= pinged * 3 + 2, (woken, pinged)


async def test_a_broker_that_vanishes_is_noticed_by_the_unanswered_ping() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        await asyncio.sleep(4 * WAIT_S)

    async with peer(script) as port:
        connection = MqttConnection(options(port, keepalive_s=1, ping_timeout_s=0.3))
        await connection.connect()
        start = time.monotonic()
        with pytest.raises(LinkLost, match="PINGRESP"):
            await connection.recv()
        assert time.monotonic() - start > 1.2, "a second of silence and the ping's own time"
        assert isinstance(connection.lost.result(), LinkLost)


HOSTILE = {
    "refusal": (bytes([0x20, 3, 0, 0x87, 0]), "Not authorized"),
    "refusal before MQTT 5": (bytes([0x20, 2, 0, 1]), "Unsupported protocol version"),
    "unknown refusal": (bytes([0x20, 3, 0, 0xFE, 0]), "malformed|lost"),
    "second CONNACK": (CONNACK + CONNACK, "unexpected CONNACK"),
    "late refusal": (CONNACK + bytes([0x20, 3, 0, 0x87, 0]), "unexpected CONNACK"),
    "unknown packet": (CONNACK + bytes([0x00, 0]), "lost"),
    "endless length": (CONNACK + bytes([0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), "lost"),
    "larger than we take": (CONNACK + b"\x30" + varint(PACKET_BYTES_MAX + 1) + b"x" * 100, "lost"),
    "truncated publish": (CONNACK + bytes([0x32, 2, 0xFF, 0xFF]), "lost"),
    "topic that is no text": (CONNACK + publish(1, b"x", topic=b"\xff"), "UTF-8"),
    "QoS 2": (CONNACK + publish(1, b"x", qos=2), "lost"),
    "QoS 3": (CONNACK + publish(1, b"x", qos=3), "lost"),
    "disconnect": (CONNACK + bytes([0xE0, 2, 0x8E, 0]), "Session taken over"),
    "closed": (CONNACK, "lost"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_broker_is_a_lost_link(name: str) -> None:
    data, why = HOSTILE[name]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(data)
        await writer.drain()
        if name != "closed":
            await asyncio.sleep(1)

    async with peer(script) as port:
        connection = MqttConnection(options(port, manual_ack=True))
        with pytest.raises(LinkLost, match=why):
            await connect_and_read(connection)
        await connection.close()


async def connect_and_read(connection: MqttConnection) -> None:
    await connection.connect()
    while True:
        await asyncio.wait_for(connection.recv(), WAIT_S)


async def test_random_bytes_are_a_lost_link_or_nothing() -> None:
    dice = random.Random(3)
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    for _ in range(150):
        kind = dice.choice([0x20, 0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0, 0xF0])
        body = dice.randbytes(dice.choice([0, 1, 2, 3, 4, 5, 8, 20]))
        data = bytes([kind]) + varint(len(body)) + body

        async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = data) -> None:
            await packet(reader)
            writer.write(CONNACK + data)
            await writer.drain()

        async with peer(script) as port:
            connection = MqttConnection(options(port, manual_ack=True))
            with pytest.raises(LinkLost):
                await connect_and_read(connection)
            await connection.close()
    assert reports == []


async def test_what_is_not_acknowledged_waits_for_the_socket() -> None:
    """With QoS 0 nothing but the socket says that there is room; those who wait go on in order, or learn of the end."""
    go, all_came = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        await go.wait()
        while len(seen) < 60:
            seen.append(int((await packet(reader))[1][4:12]))
        all_came.set()

    async with peer(script) as port:
        connection = MqttConnection(options(port, outbox_max=4))
        await connection.connect()
        bulk = [b"%08d" % number + bytes(512 * 1024) for number in range(60)]
        tasks = [asyncio.ensure_future(connection.publish("t", payload, 0)) for payload in bulk]
        await asyncio.sleep(0.1)
        assert sum(task.done() for task in tasks) < 60
        go.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 4 * WAIT_S)
        await asyncio.wait_for(all_came.wait(), 4 * WAIT_S)
        assert seen == list(range(60))
        await asyncio.wait_for(connection.lost, WAIT_S)
        with pytest.raises(LinkLost):
            await connection.publish("t", b"", 0)


async def test_publishing_waits_for_the_brokers_receive_maximum() -> None:
    """CONNACK says 3: never more are under way, and those who wait learn of the end."""
    seen: list[int] = []
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(bytes([0x20, 6, 0, 0, 3, 0x21, 0, 3]))
        for _ in range(8):
            _, body = await packet(reader)
            seen.append(int(body[6:]))
            if len(seen) == 3:
                await go.wait()
            if len(seen) <= 6:
                writer.write(b"\x40\x02" + body[3:5])
        await asyncio.sleep(0.2)

    async with peer(script) as port:
        connection = MqttConnection(options(port))
        await connection.connect()
        assert connection.offer.receive_max == 3
        tasks = [asyncio.ensure_future(connection.publish("t", b"%d" % number)) for number in range(20)]
        await asyncio.sleep(0.1)
        assert sum(task.done() for task in tasks) < 7
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert seen == sorted(seen)
        assert [type(result) for result in results[:8]] == [type(None)] * 8
        assert isinstance(results[-1], LinkLost)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_plain_mqtt_on_this_machine_is_allowed(host: str) -> None:
    refuse_insecure(host, insecure=False)


@pytest.mark.parametrize("host", ["192.168.1.2", "0.0.0.0", "::", "fe80::1%eth0", "hub.example", "localhost.example"])
def test_plain_mqtt_to_elsewhere_is_refused_unless_asked_for(host: str) -> None:
    with pytest.raises(ConfigInvalid):
        refuse_insecure(host, insecure=False)
    refuse_insecure(host, insecure=True)
    with pytest.raises(ConfigInvalid, match="broker: "):  # the key in the device's configuration
        Dialer(host, 1883)


async def test_a_name_that_resolves_elsewhere_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 1883))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: answer)
    with pytest.raises(LinkLost, match="loopback"):
        await Dialer("localhost", 1883).dial(1)
