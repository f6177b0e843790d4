"""Each native function beside its own pure form and the best alternatives of library and standard library, and the
step of the device that it is in. Medians of rounds that take turns, in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from statistics import median
from types import MappingProxyType

import cbor2

import skerry_native
from bench.report import Row, progress
from skerry.limits import CODEC_DEPTH_MAX, CODEC_ITEMS_MAX
from skerry.model.desired import Change, Desired, Key, Kind, Object, object_of, packed_objects, set_digest, short
from skerry.wire.codec import decode, encode
from skerry.wire.delta import next_step

USUAL = Path(__file__).with_name("usual-pod.json")
SETS = ((100, 1), (1000, 100))  # objects of a set, and how many of them change


def rows(quick: bool = False) -> Iterator[Row]:
    rounds, calls = (3, 20) if quick else (25, 200)
    yield from wellformed_rows(rounds, calls)
    for objects, changes in SETS:
        yield from packed_rows(rounds, max(1, calls * 100 // objects), objects, changes)
    yield from size_rows()


def wellformed_rows(rounds: int, calls: int) -> Iterator[Row]:
    """Whether the usual pod's body is one value of the subset."""
    body = encode(json.loads(USUAL.read_text()))
    fast, pure = skerry_native.load("wellformed", pure=False), skerry_native.load("wellformed", pure=True)
    if not skerry_native.compiled(fast):
        progress("          skerry_native.wellformed is not compiled here: its rows are left out")
        return
    took = turns(
        {
            "native": lambda: fast.scan(body, CODEC_DEPTH_MAX, CODEC_ITEMS_MAX),
            "pure": lambda: pure.scan(body, CODEC_DEPTH_MAX, CODEC_ITEMS_MAX),
            "cbor2": lambda: cbor2.loads(body, str_errors="strict"),
            "both": lambda: decode(body),
            "slow": lambda: (pure.scan(body, CODEC_DEPTH_MAX, CODEC_ITEMS_MAX), cbor2.loads(body, str_errors="strict")),
        },
        rounds,
        calls,
    )
    note = f"the usual pod, {len(body)} B"
    yield Row("native", "well-formed? compiled", took["native"], "µs", "its pure form", took["pure"], "lower", note)
    why = f"{note}; it accepts more than the subset, so it is no replacement"
    yield Row("native", "well-formed? compiled", took["native"], "µs", "cbor2.loads", took["cbor2"], "lower", why)
    yield Row("native", "codec.decode, checked", took["both"], "µs", "with the pure check", took["slow"], "lower", note)
    yield Row("native", "codec.decode, checked", took["both"], "µs", "cbor2.loads alone", took["cbor2"], "lower", note)


def packed_rows(rounds: int, calls: int, objects: int, changes: int) -> Iterator[Row]:
    """A set of which some objects changed: the change merged in, the two sets told apart, and the whole step with each,
    that of the device (`Desired.changed`) and that of the hub (`next_step`)."""
    fast, pure = skerry_native.load("packed", pure=False), skerry_native.load("packed", pure=True)
    if not skerry_native.compiled(fast):
        progress("          skerry_native.packed is not compiled here: its rows are left out")
        return
    kinds = [Kind.POD if i % 10 == 0 else Kind.CONFIG_MAP for i in range(objects)]
    made = [object_of(kind, str(uuid.uuid4()), os.urandom(600)) for kind in kinds]
    new = sorted((object_of(o.kind, o.uid, b"other") for o in made[:: objects // changes]), key=lambda o: o.key)
    plain, own, change = Plain(made), Desired(), Change("store", "epoch", 2, 2, tuple(new))
    own = own.changed(Change("store", "epoch", 1, 1, tuple(made)))
    goal, bodies = own.changed(change).objects, {o.key: o.body for o in made}
    base, puts, entries = packed_objects(made), packed_objects(new), [(o.key, entry(o)) for o in new]
    after = plain.bisected(entries)
    old, theirs = plain.digests, Plain(list(goal.values())).digests
    had, has = set(plain.entries), set(Plain(list(goal.values())).entries)
    assert fast.merged(base, b"", puts) == pure.merged(base, b"", puts) == after
    assert fast.difference(base, after) == pure.difference(base, after) == (b"", puts)
    assert own.changed(change).digest == plain.before(new) == set_digest(theirs.items())
    took = turns(
        {
            "merged": lambda: fast.merged(base, b"", puts),
            "pure merged": lambda: pure.merged(base, b"", puts),
            "bisected": lambda: plain.bisected(entries),
            "apart": lambda: fast.difference(base, after),
            "pure apart": lambda: pure.difference(base, after),
            "sets": lambda: (had - has, has - had),
            "dicts": lambda: ([k for k in old if k not in theirs], [k for k, d in theirs.items() if old.get(k) != d]),
            "changed": lambda: own.changed(change),
            "before": lambda: plain.before(new),
            "step": lambda: next_step(base, after, goal, bodies),
            "sha": lambda: sha256(base).digest(),
        },
        rounds,
        calls,
    )
    yield from told(took, f"{changes} of {objects}")
    why = "of one session, as its Inventory says it"
    kept = sys.getsizeof(base) / 1024
    yield Row("native", f"a known set, {objects} objects", kept, "KiB", "dict of digests", plain.kept(), "lower", why)


def told(took: dict[str, float], of: str) -> Iterator[Row]:
    """What was measured of packed sets, as rows."""

    def row(what: str, mine: str, beside: str, peer: float, why: str = "") -> Row:
        return Row("native", f"{what}, {of}", took[mine], "µs", beside, peer, "lower", why)

    why = "list of entries in order, kept beside the objects: three times the memory"
    yield row("change merged", "merged", "its pure form", took["pure merged"])
    yield row("change merged", "merged", "bisect and join", took["bisected"], why)
    yield row("sets told apart", "apart", "its pure form", took["pure apart"])
    yield row("sets told apart", "apart", "set - set", took["sets"], "sets of entries, kept: three times the memory")
    yield row("sets told apart", "apart", "two comprehensions", took["dicts"], "dicts of keys and digests, kept")
    why = "copy of the dict, merge, SHA-256"
    rest = took["changed"] - took["merged"]
    yield row("set after a change", "changed", "as it was", took["before"], why)
    yield row("set after a change", "changed", "with bisect and join", rest + took["bisected"], why)
    yield row("set after a change", "changed", "with the pure form", rest + took["pure merged"], why)
    yield row("set after a change", "changed", "SHA-256 alone", took["sha"], "no form can be below it")
    why = "tell apart, deflate what changed, merge"
    plainly = took["step"] - took["apart"] + took["dicts"]
    yield row("hub's next step", "step", "with two comprehensions", plainly, why)


class Plain:
    """The alternatives: what they keep beside the objects, and how they change it. They know no new keys."""

    def __init__(self, objects: list[Object]) -> None:
        ordered = sorted(objects, key=lambda o: o.key)
        self.keys = [o.key for o in ordered]
        self.digests = {o.key: short(o.digest) for o in ordered}
        self.entries = [entry(o) for o in ordered]
        self.objects = MappingProxyType({o.key: o for o in ordered})
        self.entry_of = dict(zip(self.keys, self.entries, strict=True))

    def kept(self) -> float:
        """KiB of the dict of keys and digests; the kinds are shared by all."""
        parts = sum(sys.getsizeof(key) + sys.getsizeof(key[1]) + sys.getsizeof(d) for key, d in self.digests.items())
        return (sys.getsizeof(self.digests) + parts) / 1024

    def bisected(self, puts: list[tuple[Key, bytes]]) -> bytes:
        """The packed set after a change, of a sorted list of entries."""
        entries = self.entries.copy()
        for key, made in puts:
            entries[bisect_left(self.keys, key)] = made
        return b"".join(entries)

    def before(self, new: list[Object]) -> bytes:
        """As `Desired.changed` did it before: a new dict, every entry looked up in order, joined and hashed."""
        objects, entries = dict(self.objects), self.entry_of.copy()
        objects.update((o.key, o) for o in new)
        entries.update((o.key, entry(o)) for o in new)
        digest = short(sha256(b"".join([entries[key] for key in sorted(objects)])).digest())
        return Desired("store", "epoch", 2, 2, MappingProxyType(objects), digest).digest


def entry(o: Object) -> bytes:
    name = o.uid.encode()
    return bytes((o.kind, len(name))) + name + short(o.digest)


def size_rows() -> Iterator[Row]:
    """What each compiled module adds to an image."""
    for path in sorted(Path(skerry_native.__path__[0]).glob("*.so")):
        with tempfile.TemporaryDirectory() as folder:
            stripped = Path(folder) / path.name
            try:
                subprocess.run(["strip", "-o", str(stripped), str(path)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                progress("          strip is missing: sizes are left out")
                return
            size, whole = stripped.stat().st_size / 1024, path.stat().st_size / 1024
        name = path.name.partition(".")[0]
        yield Row("native", f"{name}.so, stripped", size, "KiB", "as built", whole, "lower", "-O3 -g0")


def turns(calls: dict[str, Callable[[], object]], rounds: int, count: int) -> dict[str, float]:
    """Microseconds for each, the median of rounds in which each has its turn."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(count):
                call()
            took[name].append((time.perf_counter() - began) / count * 1e6)
    return {name: median(values) for name, values in took.items()}
