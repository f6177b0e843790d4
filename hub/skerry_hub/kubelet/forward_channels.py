"""Port-forwards in the channels of one WebSocket, as the Python and Java clients speak them: the ports stand in the
query, and each has a data channel and an error channel for the one TCP connection that it gets.

Decides what such a client hears when a connection fails, and that the WebSocket closes once all have ended. There is no
half-closing here: neither side can say that it sends no more and still listen. Source: Kubernetes,
k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from skerry.errors import Malformed, StreamBroken
from skerry.limits import STREAM_CHUNK_BYTES
from skerry.model.streams import Channel, CloseCode, Piece
from skerry_hub.kubelet.counts import Counts
from skerry_hub.kubelet.portforward import OpenPort, forward_error
from skerry_hub.kubelet.relay import relay
from skerry_hub.kubelet.websocket import WebSocket
from skerry_hub.limits import CLIENT_WINDOW_BYTES

CHANNEL_PROTOCOL = "v4.channel.k8s.io"


class PortChannel:
    """ports.Duplex of one port: what the client sends on its data channel is STDIN, STDOUT goes back there."""

    def __init__(self, owner: ChannelForwards, channel: int) -> None:
        self._owner, self._channel = owner, channel
        self._waiting = bytearray()
        self._unwanted = False
        self.stirred = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        return len(self._waiting)

    def arrived(self, data: bytes) -> None:
        """Nothing is kept once the forward has ended."""
        if not self._unwanted:
            self._waiting += data
            self.stirred.set()

    async def read(self) -> Piece | None:
        while not self._waiting:
            if self._owner.over is not None:
                raise self._owner.over
            self.stirred.clear()
            await self.stirred.wait()
        data = bytes(self._waiting[:STREAM_CHUNK_BYTES])
        del self._waiting[: len(data)]
        self._owner.room.set()
        return Piece(Channel.STDIN, data)

    async def write(self, piece: Piece) -> None:
        if piece.data and piece.channel is Channel.STDOUT:
            await self._owner.send(self._channel, piece.data)

    async def close(self, code: CloseCode = CloseCode.DONE, detail: str = "") -> None:
        self._unwanted = True
        self._waiting.clear()
        self._owner.room.set()


class ChannelForwards:
    """Until the client goes or every forward has ended."""

    def __init__(self, socket: WebSocket, ports: Sequence[int], open_port: OpenPort, pod: str, counts: Counts) -> None:
        """`ports`: 1 to PORT_CHANNELS_MAX."""
        self._socket, self._ports, self._open_port, self._pod, self._counts = socket, ports, open_port, pod, counts
        self._channels = [PortChannel(self, 2 * n) for n in range(len(ports))]
        self._number: int | None = None  # of the message under way
        self.room = asyncio.Event()
        self.over: StreamBroken | None = None

    async def run(self) -> None:
        """Raises nothing."""
        for channel, port in enumerate(port for port in self._ports for _ in ("data", "error")):
            self._socket.send(bytes((channel,)) + port.to_bytes(2, "little"))
        reading = asyncio.ensure_future(self._read())
        pairs = zip(self._channels, self._ports, strict=True)
        forwards = [asyncio.ensure_future(self._forward(channel, port)) for channel, port in pairs]
        try:
            await asyncio.gather(*forwards, return_exceptions=True)
        finally:
            for task in (reading, *forwards):
                task.cancel()
            await asyncio.gather(reading, *forwards, return_exceptions=True)
        await self._socket.close()

    async def send(self, channel: int, data: bytes) -> None:
        """One message. Returns once there is room for more. Raises StreamBroken."""
        if self.over is not None:
            raise self.over
        self._socket.send(bytes((channel,)) + data)
        try:
            await self._socket.drain()
        except ConnectionResetError as why:
            raise StreamBroken(CloseCode.CANCELLED, str(why)) from None

    async def _read(self) -> None:
        """What the client sends, to the channels; not while one of them is full."""
        why = StreamBroken(CloseCode.CANCELLED, "the client closed the connection")
        try:
            while (part := await self._socket.receive()) is not None:
                self._take(part.data, part.first)
                while any(c.waiting_bytes > CLIENT_WINDOW_BYTES for c in self._channels):
                    self.room.clear()
                    await self.room.wait()
        except Malformed as wrong:
            self._counts.malformed += 1
            why = StreamBroken(CloseCode.INVALID, str(wrong))
        except ConnectionResetError:
            pass
        self.over = why
        for channel in self._channels:
            channel.stirred.set()

    def _take(self, data: bytes, first: bool) -> None:
        """Raises Malformed."""
        if first:
            self._number, data = data[0], data[1:]
            if self._number >= 2 * len(self._channels):
                raise Malformed(f"WebSocket: channel {self._number} of {2 * len(self._channels)}")
        assert self._number is not None
        if self._number % 2 == 0 and data:  # on an error channel a client has nothing to say
            self._channels[self._number // 2].arrived(data)

    async def _forward(self, client: PortChannel, port: int) -> None:
        why: StreamBroken | None = None
        try:
            device = await self._open_port(port)
        except StreamBroken as refusal:
            self._counts.refused += 1
            why = refusal
        else:
            self._counts.streams += 1
            code = CloseCode.CANCELLED
            try:
                ended = await relay(client, device, self._socket.gone)
                why = ended.device
                if why is not None:
                    self._counts.broken += 1
                elif not ended.client_gone:
                    code = CloseCode.DONE
            finally:
                await device.close(code)
        await client.close()
        if why is not None and self.over is None:
            self._socket.send(bytes((2 * self._channels.index(client) + 1,)) + forward_error(port, self._pod, why))
