"""The device's Link: one MqttConnection after another, on this node's three topics."""

from __future__ import annotations

from dataclasses import replace

from skerry.errors import LinkLost
from skerry.limits import FRAME_BYTES_MAX
from skerry.ports import Inbound
from skerry.world.dial import Dialer
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttCounts, MqttOptions, Will

HANDLE_BITS = 16  # an MQTT packet identifier; the bits above it tell the connection


def down_topic(node: str) -> str:
    """Hub to device."""
    return f"skerry/v1/{node}/down"


def up_topic(node: str) -> str:
    """Device to hub."""
    return f"skerry/v1/{node}/up"


def will_topic(node: str) -> str:
    """`lost` by the broker when the device vanished, `closed` by the device when it disconnects."""
    return f"skerry/v1/{node}/will"


class MqttLink:
    """ports.Link. Manual PUBACK: a frame that is not acknowledged before the connection ends comes again or is lost,
    and the session repairs either."""

    def __init__(self, node: str, options: MqttOptions) -> None:
        """`options` says how to reach the broker; will and manual acknowledgement are set here.
        Raises ConfigInvalid for plain MQTT beyond loopback."""
        self._node = node
        will = options.will or Will(will_topic(node))
        self._options = replace(options, manual_ack=True, will=replace(will, topic=will_topic(node)))
        self._dialer = Dialer(options.host, options.port, options.tls, options.insecure)
        self._connection: MqttConnection | None = None
        self._life = 0  # which connection a handle belongs to
        self.counts = MqttCounts()

    async def connect(self) -> None:
        await self.close()
        self._life += 1
        connection = self._connection = MqttConnection(self._options, dialer=self._dialer, counts=self.counts)
        try:
            await connection.connect([down_topic(self._node)])
        except BaseException:
            await connection.close()
            raise

    async def recv(self) -> Inbound:
        message = await self._alive().recv()
        return Inbound(message.payload, self._life << HANDLE_BITS | message.handle)

    async def send(self, frame: bytes) -> None:
        assert len(frame) <= FRAME_BYTES_MAX, "the codec bounds frames"
        await self._alive().publish(up_topic(self._node), frame)

    def ack(self, handle: int) -> None:
        if self._connection is not None and handle >> HANDLE_BITS == self._life:
            self._connection.ack(handle & ((1 << HANDLE_BITS) - 1))

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def _alive(self) -> MqttConnection:
        if self._connection is None:
            raise LinkLost("not connected")
        return self._connection
