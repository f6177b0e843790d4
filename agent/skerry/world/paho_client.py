"""The one import of paho-mqtt, and what skerry needs of its insides: a socket made elsewhere, bounded reads, deadlines.

Import it late: paho brings about 4 MB of modules.
"""

from __future__ import annotations

import socket
import sys
import urllib
from collections.abc import Callable
from functools import lru_cache
from types import ModuleType
from typing import Any

# paho asks urllib.request for proxies when it makes a socket, which it never does here: without it http.client and
# email stay away, 1.2 MiB. It is kept out for the time of this import only.
_UNUSED = "urllib.request"
_kept_out = _UNUSED not in sys.modules
if _kept_out:
    sys.modules[_UNUSED] = ModuleType(_UNUSED)
try:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
    from paho.mqtt.exception import MalformedPacket
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties, VariableByteIntegers
    from paho.mqtt.reasoncodes import ReasonCode
    from paho.mqtt.subscribeoptions import SubscribeOptions
finally:
    if _kept_out:
        del sys.modules[_UNUSED]
        vars(urllib).pop("request", None)

READ_BYTES = 64 * 1024  # one recv(); paho would allocate what the broker announces, up to 256 MB
Arrived = Callable[[bytes, bytes, int], None]  # topic, payload, packet identifier: 0 with QoS 0


class PahoClient(Client):
    """One connection's life; a new one is made for the next, so that nothing is resent behind skerry's back."""

    def __init__(self, client_id: str, sock: socket.socket, manual_ack: bool, packet_bytes_max: int) -> None:
        self.trouble = ""  # why the socket failed, where TLS says more than that it did
        self.refused = False  # it failed because the broker does not take our certificate
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        self._made, self._packet_bytes_max = sock, packet_bytes_max
        self.arrived: Arrived = _unheard
        self.dry = False  # the socket had nothing more to read; cleared by whoever reads on
        self._ahead, self._taken = b"", 0  # what was read, and how much of it paho has got

    def start(self, host: str, port: int, keepalive_s: int, session_expiry_s: int, receive_max: int) -> None:
        """Queue CONNECT on the socket. `receive_max` 0 leaves MQTT's own bound of 65,535."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_expiry_s
        properties.MaximumPacketSize = self._packet_bytes_max
        if receive_max:
            properties.ReceiveMaximum = receive_max
        self.connect(host, port, keepalive_s, clean_start=True, properties=properties)

    def set_will(self, topic: str, payload: bytes, delay_s: int) -> None:
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        properties.WillDelayInterval = delay_s
        self.will_set(topic, payload, qos=1, retain=False, properties=properties)

    def send(self, topic: str, payload: bytes, qos: int, expiry_s: int) -> MQTTErrorCode:
        """PUBLISH, with a message expiry unless that is 0. `on_publish` hears of those with QoS 1 only."""
        if qos:
            return self.publish(topic, payload, qos, properties=_expiry(expiry_s) if expiry_s else None).rc
        if self._sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        head = _head(topic, expiry_s)
        size = VariableByteIntegers.encode(len(head) + len(payload))  # type: ignore[no-untyped-call]
        return self._packet_queue(_PUBLISH, b"".join((_PUBLISH_QOS_0, size, head, payload)), 0, _UNTOLD)

    @property
    def queued(self) -> int:
        """Packets that wait for the socket to take them."""
        return len(self._out_packet)

    def limit_in_flight(self, publishes: int) -> None:
        """The broker's receive maximum. paho neither reads it from CONNACK nor lets its setter be called by then."""
        self._max_inflight_messages = publishes

    def pinged(self) -> float:
        """The monotonic time of a PINGREQ that is not answered yet, else 0."""
        return self._ping_t

    def misc_due(self) -> float | None:
        """The monotonic time at which loop_misc has something to do; None without keepalive."""
        if self._keepalive == 0:
            return None
        return min(self._last_msg_out, self._last_bytes_received) + self._keepalive

    def drop(self) -> None:
        """Close the socket at once, saying nothing. Not to be called inside one of paho's callbacks."""
        self._sock_close()

    def _create_socket(self) -> Any:
        return self._made

    def _sock_recv(self, bufsize: int) -> bytes:
        if bufsize > self._packet_bytes_max:
            raise ConnectionError("packet too large")  # paho makes a lost connection of it
        if self._taken == len(self._ahead):
            try:
                self._ahead, self._taken = super()._sock_recv(READ_BYTES), 0
            except BlockingIOError:
                self.dry = True
                raise
            except OSError as why:
                self.trouble, self.refused = _alert(why)
                raise
        start, self._taken = self._taken, min(self._taken + bufsize, len(self._ahead))
        return self._ahead[start : self._taken]

    def _handle_publish(self) -> MQTTErrorCode:
        """As paho's, but the properties are skipped: skerry wants none of them, and paho makes tables of all that there
        are for each message, half of what a received message costs. And no MQTTMessage is made, with a lock in it."""
        packet, qos = self._in_packet["packet"], self._in_packet["command"] >> 1 & 3
        if qos == 2:
            return self._send_pubrec(0)
        at = 2 + int.from_bytes(packet[:2], "big")
        whole = memoryview(packet)
        topic, mid = bytes(whole[2:at]), int.from_bytes(packet[at : at + 2], "big") if qos else 0
        at += 2 * qos
        length, used = VariableByteIntegers.decode(packet[at : at + 4])  # type: ignore[no-untyped-call]
        at += used + length
        if at > len(packet):
            raise MalformedPacket(f"a PUBLISH of {len(packet)} bytes, where {at} are announced")
        self.arrived(topic, bytes(whole[at:]), mid)
        return MQTTErrorCode.MQTT_ERR_SUCCESS if self._manual_ack or not qos else self._send_puback(mid)

    def _send_pubrec(self, mid: int) -> MQTTErrorCode:
        raise MalformedPacket(f"QoS 2 was never asked for (packet {mid})")  # paho would keep such messages unbounded


VERDICTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "DECRYPT_ERROR")  # the last one: signed by a namesake


def _alert(why: OSError) -> tuple[str, bool]:
    """In TLS 1.3 a server's verdict on a client's certificate comes after the handshake, with the first bytes that are
    read (RFC 8446, 4.4.2.4). What it says, and whether it is such a verdict."""
    reason = str(getattr(why, "reason", None) or "")
    said = reason.lower().replace("_", " ")
    if not any(word in reason for word in VERDICTS):
        return said, False
    return f"the broker does not take this certificate: {said}", True


class _Expiry(Properties):
    """A message expiry, packed once and not for each message."""

    def __init__(self, seconds: int) -> None:
        super().__init__(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        self.MessageExpiryInterval = seconds
        object.__setattr__(self, "_packed", super().pack())  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        packed: bytes = self.__dict__["_packed"]
        return packed


@lru_cache(maxsize=4)
def _expiry(seconds: int) -> _Expiry:
    return _Expiry(seconds)


_PUBLISH, _PUBLISH_QOS_0 = 0x30, b"\x30"  # MQTT 5, section 3.3.1
_UNTOLD = 1  # as QoS to paho: for a packet with QoS 0 it makes tables to tell that it was written


@lru_cache(maxsize=256)
def _head(topic: str, expiry_s: int) -> bytes:
    """A PUBLISH's variable header with QoS 0 (MQTT 5, section 3.3.2)."""
    name = topic.encode()
    properties = _expiry(expiry_s).pack() if expiry_s else b"\0"
    return len(name).to_bytes(2, "big") + name + properties


def _unheard(_topic: bytes, _payload: bytes, _mid: int) -> None:
    """Nothing is subscribed to yet."""


def subscription() -> SubscribeOptions:
    """QoS 1, and nothing retained: state comes from the session, never from the broker's memory."""
    return SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)


__all__ = [
    "PacketTypes",
    "PahoClient",
    "ReasonCode",
    "subscription",
]
