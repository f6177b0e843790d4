"""People who look at devices through the hub: logs, exec, port-forward. They come at any moment, read or not, and go.

What is checked is what they leave behind: nothing, at the device and at the hub, and that a stream gives them only
what belongs to it. A stream's own end is never promised.
"""

from __future__ import annotations

import asyncio
from random import Random

from sim.checks import PROMISES
from sim.device import Device
from sim.etcd import Etcd
from sim.hub import Hub
from sim.world import World
from skerry.errors import StreamBroken
from skerry.limits import STREAM_SILENCE_S
from skerry.model.streams import Channel, CloseCode, Exec, Logs, Piece, PortForward, StreamRequest
from skerry.ports import Duplex
from skerry_hub.ports import PODS

STAY_S = (0.1, 90.0)  # how long one looks
LEFT_S = 4 * STREAM_SILENCE_S  # after the last has gone: until both ends of a broken stream know it


class Viewers:
    def __init__(self, world: World, hub: Hub, etcd: Etcd) -> None:
        self.world, self.hub, self.etcd = world, hub, etcd
        self.random: Random = world.rng("viewers")
        self.count = 0
        self.gone_at = 0.0  # when the last one will have gone

    def come(self) -> None:
        """One more, at a pod that the API shows."""
        pods = [p for p in self.etcd.all(PODS).values() if p["spec"].get("nodeName")]
        if not pods or not self.hub.running:
            return
        pod, stay = self.random.choice(pods), self.random.uniform(*STAY_S)
        self.count += 1
        self.gone_at = max(self.gone_at, self.world.now + stay)
        name, container = pod["metadata"]["name"], self.random.choice(pod["spec"]["containers"])["name"]
        request = self._request(pod["metadata"]["namespace"], name, container)
        self.world.tell("viewer", f"{self.count}: {type(request).__name__} of {name} for {stay:.0f} s")
        self.world.loop.spawn(self.hub.process, self._look(pod["spec"]["nodeName"], request, stay, Random(self.count)))

    def _request(self, namespace: str, pod: str, container: str) -> StreamRequest:
        follow = self.random.random() < 0.7
        requests: tuple[StreamRequest, ...] = (
            Logs(namespace, pod, container, follow=follow),
            Exec(namespace, pod, container, ("/bin/cat",), stdin=True),
            Exec(namespace, pod, container, ("/bin/sleep", "100000")),
            PortForward(namespace, pod, 80),
        )
        return self.random.choice(requests)

    async def _look(self, node: str, request: StreamRequest, stay: float, random: Random) -> None:
        """In the hub's process: it dies with it."""
        streams = self.hub.streams
        if streams is None:
            return
        try:
            stream = await streams.open(node, request)
        except StreamBroken as why:
            self.world.count(f"streams refused {CloseCode(why.code).name}")
            return
        self.world.count("streams opened")
        try:
            await asyncio.wait_for(self._talk(stream, request, random), stay)
            self.world.count("streams ended")
        except asyncio.TimeoutError:
            self.world.count("streams left")
        except StreamBroken:
            self.world.count("streams broken")
        finally:
            await stream.close(CloseCode.CANCELLED, "the viewer went away")

    async def _talk(self, stream: Duplex, request: StreamRequest, random: Random) -> None:
        """Say something, and read what comes; an echo is what was said."""
        echoes = isinstance(request, PortForward) or (isinstance(request, Exec) and request.stdin)
        said, heard = b"", b""
        if echoes:
            said = bytes([random.randrange(256)]) * random.randint(1, 40_000)
            writing = asyncio.ensure_future(stream.write(Piece(Channel.STDIN, said, end=True)))
        try:
            while (piece := await stream.read()) is not None:
                if piece.channel is Channel.STDOUT:
                    heard += piece.data
                await asyncio.sleep(random.random())
        finally:
            if echoes:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        if echoes:
            whole = said.startswith(heard) and (heard == said or not isinstance(request, PortForward))
            self.world.check(whole, PROMISES["12"], f"{len(said)} bytes were said, {len(heard)} others came back")

    def left_behind(self, devices: list[Device]) -> list[str]:
        """What is still there though everybody has gone for a while."""
        if self.world.now < self.gone_at + LEFT_S:
            return ["[12] the last viewer went only just now"]
        out = []
        for device in devices:
            open_ = [s for s in device.engine.streams if not s.closed]
            out += [f"[12] {device.node}: {len(open_)} streams of its engine are open"] if open_ else []
            if f"{device.node}.streams" in self.hub.broker.ports:
                out.append(f"[12] {device.node}: its connection for streams is open")
        shown = self.hub.streams.snapshot() if self.hub.streams is not None else {}
        if shown.get("lanes") or shown.get("open"):
            out.append(f"[12] hub: {shown}")
        return out
