"""Each native function beside its own pure form and the best alternatives of library and standard library, and the
set's digest, which a better plain algorithm keeps out of C. Medians of rounds that take turns, in one process."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from statistics import median

import cbor2

import skerry_native
from bench.report import Row, progress
from skerry.limits import CODEC_DEPTH_MAX, CODEC_ITEMS_MAX
from skerry.model.desired import Change, Desired, Key, Kind, Object, object_of, objects_digest
from skerry.wire.codec import decode, encode

USUAL = Path(__file__).with_name("usual-pod.json")
SET_OBJECTS = 100


def rows(quick: bool = False) -> Iterator[Row]:
    rounds, calls = (3, 20) if quick else (25, 200)
    yield from wellformed_rows(rounds, calls)
    yield from digest_rows(rounds, calls)
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


def digest_rows(rounds: int, calls: int) -> Iterator[Row]:
    """The digest of a set of which one object changed."""
    kinds = [Kind.POD if i % 10 == 0 else Kind.CONFIG_MAP for i in range(SET_OBJECTS)]
    made = [object_of(kind, str(uuid.uuid4()), os.urandom(600)) for kind in kinds]
    own = Desired().changed(Change("store", "epoch", 1, 1, tuple(made)))
    change = Change("store", "epoch", 2, 2, (object_of(made[0].kind, made[0].uid, b"other"),))
    preimage = b"".join(own.objects[key].entry for key in sorted(own.objects))
    assert objects_digest(own.objects) == before(own.objects)
    took = turns(
        {
            "now": lambda: objects_digest(own.objects),
            "before": lambda: before(own.objects),
            "sha": lambda: sha256(preimage).digest(),
            "changed": lambda: own.changed(change),
        },
        rounds,
        calls,
    )
    note = f"{SET_OBJECTS} objects, plain Python"
    now, old, why = took["now"], took["before"], f"{note}: entries are made once and kept in order"
    yield Row("native", "set digest", now, "µs", "as it was", old, "lower", why)
    why = f"{note}: no native form can be below it"
    yield Row("native", "set digest", now, "µs", "SHA-256 alone", took["sha"], "lower", why)
    changed = took["changed"]
    yield Row("native", "set after a change", changed, "µs", "with the old digest", changed - now + old, "lower", note)


def before(objects: Mapping[Key, Object]) -> bytes:
    """The digest as it was computed first: each entry anew, hashed one by one."""
    whole = sha256()
    for (kind, uid), obj in sorted(objects.items(), key=lambda item: item[0]):
        name = uid.encode()
        whole.update(bytes((kind, len(name))) + name + obj.digest[:16])
    return whole.digest()[:16]


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
        yield Row("native", f"{name}.so, stripped", size, "KiB", "as built", whole, "lower", "-O2 -g0")


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
