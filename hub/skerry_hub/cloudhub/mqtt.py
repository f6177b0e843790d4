"""ports.Broker on a real one: one MqttConnection of the agent's driver after another, messages handed on as they come.

Nothing waits in the connection's own queue, which all devices would share.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace

from skerry.errors import LinkLost, SkerryError
from skerry.world.dial import Dialer
from skerry.world.mqtt import MqttConnection
from skerry.world.mqtt_values import MqttCounts, MqttOptions, Received


class MqttBroker:
    """Use on a running loop."""

    def __init__(self, options: MqttOptions, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        """`tls` is asked before each attempt to connect, because certificates expire. Raises ConfigInvalid for plain
        MQTT beyond loopback, and for keys that cannot be used."""
        self._tls = tls
        options = replace(options, tls=tls() if tls is not None else options.tls)
        self._options = replace(options, manual_ack=False, session_expiry_s=0)
        self._dialer = Dialer(options.host, options.port, options.tls, options.insecure)
        self._connection: MqttConnection | None = None
        self.counts = MqttCounts()

    async def connect(self, deliver: Callable[[str, bytes], None]) -> None:
        await self.close()
        if self._tls is not None:
            try:
                self._dialer.use(self._tls())
            except SkerryError as why:
                raise LinkLost(f"{self._options.host}:{self._options.port}: {why}") from None

        def hand_on(message: Received) -> None:
            deliver(message.topic, message.payload)

        self._connection = MqttConnection(self._options, dialer=self._dialer, counts=self.counts, deliver=hand_on)
        await self._connection.connect()

    async def lost(self) -> LinkLost:
        return await asyncio.shield(self._alive().lost)

    async def subscribe(self, topics: Sequence[str]) -> None:
        await self._alive().subscribe(topics)

    async def unsubscribe(self, topics: Sequence[str]) -> None:
        await self._alive().unsubscribe(topics)

    async def publish(self, topic: str, payload: bytes, *, bulk: bool = False, expiry_s: int = 0) -> None:
        await self._alive().publish(topic, payload, 0 if bulk else 1, expiry_s)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    def _alive(self) -> MqttConnection:
        if self._connection is None:
            raise LinkLost("not connected")
        return self._connection
