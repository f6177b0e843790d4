"""Sessions on a fake broker, and the device's own session at its other end."""

from __future__ import annotations

import asyncio
from typing import Any

from skerry.model.desired import Object
from skerry.model.report import OutboxItem, Phase, PodStatus, ReportKind
from skerry.wire import message
from skerry.wire.message import Hello, Message, Report
from skerry.wire.report import encode_report
from skerry.wire.session import Commit, DeviceSession, Effect, Identity, Retell, Send, Trim
from skerry_hub.cloudhub.sessions import GuardOf, Sessions, topic
from skerry_hub.sets import Target
from unit.hub.fakes import Dice, FakeBroker, FakeController, ManualClock
from unit.wire.pair import EPOCH, NODE, STORE, Board, objects, pod

OTHER = "pi-8"
A, B = pod("a"), pod("b")


def target(*what: Object, version: int = 5) -> Target:
    return Target(STORE, EPOCH, version, objects(*what))


class Site:
    def __init__(self, guard_of: GuardOf | None = None) -> None:
        """Without `guard_of` frames are in clear."""
        self.broker, self.controller, self.clock = FakeBroker(), FakeController(), ManualClock()
        self.log: list[str] = []
        self.sessions = Sessions(self.broker, self.controller, self.clock, Dice(), self.log.append, guard_of)
        self.task: asyncio.Task[None] | None = None

    async def start(self, *nodes: str) -> None:
        self.sessions.nodes(nodes)
        self.task = asyncio.ensure_future(self.sessions.run())
        await self.clock.advance(0.5)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    def up(self, node: str, said: Message) -> bool:
        return self.broker.say(topic(node, "up"), message.encode(said))

    def counts(self, node: str = NODE) -> dict[str, Any]:
        shown: dict[str, Any] = self.sessions.snapshot()["devices"][node]
        return shown


class Device:
    """The device's real session over the fake broker, with its journal in memory."""

    def __init__(self, site: Site, node: str = NODE) -> None:
        self.site, self.node, self.board = site, node, Board()
        self.session = DeviceSession(Identity(node, "boot", "0.1.0"))
        self.heard: list[Message] = []
        self._hellos = 0

    async def connect(self) -> None:
        self._hellos += 1
        self._forgets()  # Clean Start: what was said before is gone
        nonce = self._hellos.to_bytes(8, "big")
        self._do(self.session.opened(self.board, self.site.clock.now(), 0.0, nonce))
        await self.converse()

    async def converse(self) -> None:
        """Until neither end has anything to say without time passing."""
        for _ in range(20):
            await self.site.clock.advance(0.06)  # beyond STATUS_COALESCE_S
            heard = self._hears()
            self.heard += heard
            for said in heard:
                now = self.site.clock.now()
                self._do(self.session.received(message.encode(said), self.board, now, 0.5))
            if not heard:
                return

    def _forgets(self) -> None:
        self.site.broker.heard(self.node)

    def _says(self, said: Message) -> None:
        self.site.up(self.node, said)

    def _hears(self) -> list[Message]:
        return self.site.broker.heard(self.node)

    async def tell(self, uid: str, phase: Phase) -> None:
        self.board.tell(uid, phase)
        self._do(self.session.flush(self.board, self.site.clock.now()))
        await self.converse()

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(said):
                    self._says(said)
                case Commit(change):
                    self.board.apply(change, hub_may_wipe=True)
                    self._do(self.session.committed(self.board, self.site.clock.now()))
                case Trim(seq):
                    self.board.trim(seq)
                case Retell():
                    self.board.retell()
                case _:
                    pass


def hello(node: str = NODE, nonce: bytes = b"12345678") -> Hello:
    board = Board()
    return Hello(
        node, nonce, board.journal_id, "boot", "", "", 0, 0, board.desired.digest, 1, board.outbox_next, 0, "0.1.0"
    )


def report(first: int, count: int = 1, after: int | None = None, nonce: bytes = b"12345678") -> Report:
    body = encode_report(PodStatus("a", "default", "a", Phase.RUNNING))
    items = tuple(OutboxItem(first + i, ReportKind.POD_STATUS, "a", body) for i in range(count))
    return Report(nonce, b"j" * 16, items, first - 1 if after is None else after)
