"""A Store in memory for the journal's tests: it can be full, hold commits back, and be cut off at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from skerry.errors import StoreFull
from skerry.journal.journal import Journal
from skerry.journal.recovery import recover
from skerry.model.desired import Change, Key, Kind, Object, object_of
from skerry.model.report import ContainerStatus, Event, Life, NodeFacts, Phase, PodStatus


@dataclass
class MemoryStore:
    """ports.Store. `cuts` are the disks that a power cut could have left: before each commit's copy, between the copy
    and the commit, and after it."""

    data: dict[bytes, bytes] = field(default_factory=dict)
    copy_files: list[bytes] = field(default_factory=list)  # newest first, at most two
    full: bool = False
    held: list[asyncio.Future[None]] | None = None  # with a list, commits wait there until released
    commits: int = 0
    cuts: list[tuple[str, MemoryStore]] = field(default_factory=list)

    def get(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted((k, v) for k, v in self.data.items() if k.startswith(prefix))

    async def commit(self, puts: Mapping[bytes, bytes], deletes: Sequence[bytes], copy: bytes | None = None) -> None:
        if self.full:
            raise StoreFull("full")
        if copy is not None:
            self.copy_files = [copy, *self.copy_files[:1]]
            self.cuts.append(("copied", self.image()))
        self.data |= puts
        for key in deletes:
            self.data.pop(key, None)
        self.commits += 1
        self.cuts.append(("committed", self.image()))
        if self.held is not None:
            gate = asyncio.get_running_loop().create_future()
            self.held.append(gate)
            await gate

    def image(self) -> MemoryStore:
        """What lies on the disk at this moment, as a store of its own."""
        return MemoryStore(dict(self.data), list(self.copy_files))

    def copies(self) -> list[bytes]:
        return list(self.copy_files)

    def usage(self) -> float:
        return 0.0

    def written_bytes(self) -> int:
        return 0

    def close(self) -> None:
        pass


class Counting:
    """Entropy that counts."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def token(self, size: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(size, "big")

    def uniform(self) -> float:
        return 0.5


async def opened(store: MemoryStore, entropy_start: int = 0) -> Journal:
    return (await recover(store, Counting(entropy_start))).journal


def pod_object(uid: str, body: str = "1") -> Object:
    return object_of(Kind.POD, uid, body.encode())


def change(generation: int, *puts: Object, deletes: frozenset[Key] = frozenset()) -> Change:
    return Change("store", "epoch", generation * 10, generation, puts, deletes)


def status(uid: str, restarts: int = 0, life: Life = Life.RUNNING) -> PodStatus:
    return PodStatus(
        uid,
        "default",
        f"pod-{uid}",
        Phase.RUNNING,
        (ContainerStatus("app", life, container_id="c", restarts=restarts),),
    )


def event(uid: str, ident: str) -> Event:
    return Event(uid, "default", f"pod-{uid}", "Started", "Started container app", False, 5, ident)


def facts(boot_id: str = "boot-1") -> NodeFacts:
    return NodeFacts(4000, 512 << 20, 110, "arm64", "linux", "skerry", "6.6", boot_id, "m", "containerd://1", "0.1")
