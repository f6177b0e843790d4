"""The MQTT connection on a real mosquitto: wills, full hubs, far too large frames."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.broker import MOSQUITTO, Broker
from patience import WAIT_S, until
from skerry.limits import FRAME_BYTES_MAX, PACKET_BYTES_MAX
from skerry.world.link import MqttLink, down_topic, up_topic, will_topic
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttOptions, Will

real_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


async def hub_at(broker: Broker, *topics: str, **more: Any) -> MqttConnection:
    hub = MqttConnection(MqttOptions("127.0.0.1", broker.port, "hub", **more))
    await hub.connect(topics)
    return hub


@real_broker
async def test_the_hub_learns_of_a_lost_and_of_a_closed_device(broker: Broker) -> None:
    hub = await hub_at(broker, will_topic("n1"))
    device = MqttLink("n1", MqttOptions("127.0.0.1", broker.port, "n1", will=Will("", delay_s=0)))
    await device.connect()
    await device.close()
    assert (await asyncio.wait_for(hub.recv(), WAIT_S)).payload == b"closed"
    await device.connect()
    assert device._connection is not None
    assert device._connection._client is not None
    device._connection._client.drop()  # without a word
    assert (await asyncio.wait_for(hub.recv(), WAIT_S)).payload == b"lost"
    await hub.close()


@real_broker
async def test_a_reconnect_within_the_will_delay_and_the_will_of_the_old_connection(broker: Broker) -> None:
    """Clean Start ends the old session, and with it comes the will (MQTT 5, 3.1.4-3); before anything that the new
    connection says."""
    hub = await hub_at(broker, will_topic("n1"), up_topic("n1"))
    device = MqttLink("n1", MqttOptions("127.0.0.1", broker.port, "n1", will=Will("", delay_s=60)))
    await device.connect()
    assert device._connection is not None
    assert device._connection._client is not None
    device._connection._client.drop()
    await device.connect()
    await device.send(b"hello")
    got = [await asyncio.wait_for(hub.recv(), WAIT_S)]
    while got[-1].payload != b"hello":
        got.append(await asyncio.wait_for(hub.recv(), WAIT_S))
    assert [message.payload for message in got] in ([b"hello"], [b"lost", b"hello"])
    await device.close()
    await hub.close()


@real_broker
async def test_a_full_hub_acknowledges_at_once_and_counts_what_it_drops(broker: Broker) -> None:
    hub = await hub_at(broker, "t", inbox_max=5)
    device = await hub_at_as(broker, "n1")
    for number in range(50):
        await device.publish("t", b"%d" % number)
    await until(lambda: hub.counts.received == 50, "all messages")
    assert hub.counts.dropped_full == 45
    assert [int((await hub.recv()).payload) for _ in range(5)] == [0, 1, 2, 3, 4]
    await until(lambda: broker.log().count("Received PUBACK from hub") == 50, "all acknowledgements")
    await device.close()
    await hub.close()


async def hub_at_as(broker: Broker, name: str) -> MqttConnection:
    connection = MqttConnection(MqttOptions("127.0.0.1", broker.port, name))
    await connection.connect()
    return connection


@real_broker
async def test_a_hub_may_take_messages_without_a_queue_and_unsubscribe(broker: Broker) -> None:
    got: list[bytes] = []
    hub = MqttConnection(
        MqttOptions("127.0.0.1", broker.port, "hub"), deliver=lambda message: got.append(message.payload)
    )
    await hub.connect([up_topic("n1"), up_topic("n2")])
    device = await hub_at_as(broker, "n1")
    await device.publish(up_topic("n1"), b"1")
    await device.publish(up_topic("n2"), b"2")
    await until(lambda: len(got) == 2, "both messages")
    await hub.unsubscribe([up_topic("n1")])
    await device.publish(up_topic("n1"), b"3")
    await device.publish(up_topic("n2"), b"4")
    await until(lambda: b"4" in got, "the last message")
    assert got == [b"1", b"2", b"4"]
    await device.close()
    await hub.close()


@real_broker
async def test_far_too_large_frames_never_reach_the_device(broker: Broker) -> None:
    """We announce a maximum packet size: the broker itself drops what is far beyond the bound, and goes on."""
    hub = await hub_at_as(broker, "hub")
    device = MqttLink("n1", MqttOptions("127.0.0.1", broker.port, "n1"))
    await device.connect()
    await hub.publish(down_topic("n1"), b"x" * (PACKET_BYTES_MAX + FRAME_BYTES_MAX))
    await hub.publish(down_topic("n1"), b"next")
    assert (await asyncio.wait_for(device.recv(), WAIT_S)).frame == b"next"
    assert device.counts.received == 1
    await device.close()
    await hub.close()
