"""The device's Link and StreamLink: one MqttConnection after another, on this node's topics."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from skerry.errors import CertificateRefused, LinkLost
from skerry.limits import (
    PAYLOAD_BYTES_MAX,
    STREAM_EXPIRY_S,
    STREAM_FRAMES_WAITING_MAX,
    STREAM_PING_S,
    TURNED_AWAY_MAX,
)
from skerry.model.streams import streams_name
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


def streams_down_topic(node: str) -> str:
    """Hub to device, for streams: a second client as the broker sees it, with a certificate of its own."""
    return down_topic(streams_name(node))


def streams_up_topic(node: str) -> str:
    """Device to hub, for streams."""
    return up_topic(streams_name(node))


class Credentials(Protocol):
    """What a device proves to its broker with, and where that is. Adapter: world.enrolled.Enrolment."""

    async def complete(self, options: MqttOptions) -> MqttOptions:
        """With host, port and TLS of the client `options.client_id`, as this device is enrolled now. The same TLS
        context as long as that does not change. Raises LinkLost where it is not enrolled."""

    def refuse(self) -> None:
        """The broker does not take them."""


class Way:
    """How to the broker: as configured, or as the device is enrolled whenever it connects."""

    def __init__(self, options: MqttOptions, credentials: Credentials | None) -> None:
        """Raises ConfigInvalid for plain MQTT beyond loopback."""
        self._options, self._credentials = options, credentials
        self._dialer = None if credentials is not None else _dialer(options)

    async def found(self) -> tuple[MqttOptions, Dialer]:
        """Raises LinkLost."""
        if self._credentials is not None:
            had, self._options = self._options, await self._credentials.complete(self._options)
            if had != self._options:
                self._dialer = None
        if self._dialer is None:
            self._dialer = _dialer(self._options)
        return self._options, self._dialer


def _dialer(options: MqttOptions) -> Dialer:
    return Dialer(options.host, options.port, options.tls, options.insecure)


class MqttLink:
    """ports.Link. Manual PUBACK: a frame that is not acknowledged before the connection ends comes again or is lost,
    and the session repairs either."""

    def __init__(self, node: str, options: MqttOptions, credentials: Credentials | None = None) -> None:
        """`options` says how to reach the broker, `credentials` completes them; will and manual acknowledgement are set
        here. Raises ConfigInvalid for plain MQTT beyond loopback."""
        self._node, self._credentials = node, credentials
        will = options.will or Will(will_topic(node))
        self._options = replace(options, manual_ack=True, will=replace(will, topic=will_topic(node)))
        self._way = Way(self._options, credentials)
        self._connection: MqttConnection | None = None
        self._away = 0  # connections in a row that the broker ended before a CONNACK
        self._life = 0  # which connection a handle belongs to
        self.counts = MqttCounts()

    def for_streams(self) -> MqttStreamLink:
        """The same device's other connection."""
        return MqttStreamLink(self._node, self._options, self._credentials)

    async def connect(self) -> None:
        await self.close()
        self._life += 1
        options, dialer = await self._way.found()
        connection = self._connection = MqttConnection(options, dialer=dialer, counts=self.counts)
        try:
            await connection.connect([down_topic(self._node)])
        except BaseException as why:
            self._judged(isinstance(why, CertificateRefused), connection.turned_away)
            await connection.close()
            raise
        self._away = 0

    def _judged(self, refused: bool, turned_away: bool) -> None:
        """A broker's alert about a certificate is lost where its end of the connection goes first, so several
        connections in a row that it ends before a CONNACK count for one."""
        self._away = self._away + 1 if turned_away else 0
        if self._credentials is not None and (refused or self._away >= TURNED_AWAY_MAX):
            self._away = 0
            self._credentials.refuse()

    async def recv(self) -> Inbound:
        message = await self._alive().recv()
        return Inbound(message.payload, self._life << HANDLE_BITS | message.handle)

    async def send(self, frame: bytes) -> None:
        assert len(frame) <= PAYLOAD_BYTES_MAX, "codec and guard bound what is sent"
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


class MqttStreamLink:
    """ports.StreamLink: a connection of its own, with a client id and topics of its own, so that bulk never delays
    state."""

    def __init__(self, node: str, options: MqttOptions, credentials: Credentials | None = None) -> None:
        """As MqttLink; with a keepalive short enough for people who wait."""
        self._node = node
        options = replace(
            options,
            client_id=streams_name(options.client_id),
            manual_ack=False,
            keepalive_s=STREAM_PING_S,
            session_expiry_s=0,
            inbox_max=STREAM_FRAMES_WAITING_MAX,
        )
        self._way = Way(options, credentials)
        self._connection: MqttConnection | None = None
        self.counts = MqttCounts()

    async def connect(self, gone: bytes) -> None:
        await self.close()
        options, dialer = await self._way.found()
        options = replace(options, will=Will(streams_up_topic(self._node), gone, gone, 0))
        connection = self._connection = MqttConnection(options, dialer=dialer, counts=self.counts)
        try:
            await connection.connect([streams_down_topic(self._node)])
        except BaseException:
            await connection.close()
            raise

    async def recv(self) -> bytes:
        return (await self._alive().recv()).payload

    async def send(self, frame: bytes, bulk: bool) -> None:
        await self._alive().publish(streams_up_topic(self._node), frame, 0 if bulk else 1, STREAM_EXPIRY_S)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def _alive(self) -> MqttConnection:
        if self._connection is None:
            raise LinkLost("not connected")
        return self._connection
