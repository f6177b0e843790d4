"""What MQTT connections are made of: options, received messages, the broker's offer, counts. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from skerry.limits import (
    CONNECT_TIMEOUT_S,
    INBOX_FRAMES_MAX,
    MQTT_KEEPALIVE_S,
    MQTT_SESSION_EXPIRY_S,
    MQTT_WILL_DELAY_S,
    OUTBOX_FRAMES_MAX,
    PING_TIMEOUT_S,
)

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for us: `payload` after `delay_s` when we vanish, `farewell` at once when we close."""

    topic: str
    payload: bytes = b"lost"
    farewell: bytes = b"closed"
    delay_s: int = MQTT_WILL_DELAY_S


@dataclass(frozen=True, slots=True)
class MqttOptions:
    """How to reach a broker. Times are seconds."""

    host: str
    port: int
    client_id: str
    tls: ssl.SSLContext | None = None
    insecure: bool = False  # plain MQTT to other than loopback
    keepalive_s: int = MQTT_KEEPALIVE_S
    ping_timeout_s: float = PING_TIMEOUT_S
    session_expiry_s: int = MQTT_SESSION_EXPIRY_S
    connect_timeout_s: float = CONNECT_TIMEOUT_S
    will: Will | None = None
    manual_ack: bool = False  # True: PUBACK by ack() only. False: at once, even when the frame is dropped
    inbox_max: int = INBOX_FRAMES_MAX  # received frames waiting in recv()'s queue
    outbox_max: int = OUTBOX_FRAMES_MAX  # publishes under way; fewer if the broker asks for it


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came. `handle` is for ack(); 0 with QoS 0, which needs none."""

    topic: str
    payload: bytes
    handle: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What the broker's CONNACK allows."""

    receive_max: int = 65_535
    packet_bytes_max: int = 268_435_460
    topic_alias_max: int = 0
    retain: bool = True
    shared: bool = True
    keepalive_s: int = MQTT_KEEPALIVE_S


@dataclass(slots=True)
class MqttCounts:
    """What happened, over all connections that share it."""

    connects: int = 0
    resumed: int = 0  # of those, by a TLS session of the connection before
    received: int = 0
    dropped_full: int = 0  # the inbox was full
    dropped_large: int = 0  # over PAYLOAD_BYTES_MAX
    published: int = 0
    refused: int = 0  # publishes that the broker acknowledged with an error
    reads: int = 0  # wake-ups by the socket
