"""What protecting state costs in time and bytes: a set's signature, a sealed frame, and a Secret from hub to pod.

Each is the least of many rounds, on one core: a figure of the code and not of the machine's other guests.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.report import Row
from contract.certificates import authority, enrolled
from skerry import identity
from skerry.model.desired import Kind, object_of
from skerry.wire import cose
from skerry.wire.codec import encode
from skerry.wire.guard import ABOUT_SET
from skerry.wire.sealed import seal
from skerry.world.sealing_keys import SealingKeys
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl

GROUP = "trust"
ROUNDS = 2_000
VALUE = bytes(1024)
META = {"name": "creds", "namespace": "default", "uid": "0d5bd2cf-1f6e-4ae2-9d3c-0a2f0f6f8a11"}


def rows(quick: bool = False) -> Iterator[Row]:
    rounds = ROUNDS // 20 if quick else ROUNDS
    hub, device, seed = OpenSsl(), Sodium(), bytes(range(32))
    kid, public = cose.key_id(hub.public(seed)), hub.public(seed)
    proof = cose.sign_detached(hub, seed, kid, bytes(200), ABOUT_SET)
    parsed = cose.parse_sign1(proof)
    verify = lambda: cose.verified(device, parsed, public, ABOUT_SET, bytes(200))  # noqa: E731
    yield _row("a set's signature, verified on the device", rounds, verify, "libsodium; whatever the set's size")
    key = cose.derive(seed, b"", "bench")
    sealed = cose.encrypt(hub, key, 1, bytes(1024))
    yield _row("a frame of 1 KiB, opened on the device", rounds, lambda: cose.decrypt(device, key, sealed), "libsodium")
    yield from _secret(rounds, hub)


def _secret(rounds: int, hub: OpenSsl) -> Iterator[Row]:
    plain = object_of(Kind.SECRET, META["uid"], encode({"metadata": META, "data": {"key": VALUE}, "type": "Opaque"}))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        device = enrolled(authority(), "edge-1")
        identity.write(folder, device)
        public = hub.exchange_public(bytes.fromhex(device.keys.sealing))
        body = seal(hub, public, bytes(32), plain)
        keys = SealingKeys(folder)
        note = "once for each device, Secret and change"
        yield _row("a Secret of 1 KiB, sealed at the hub", rounds, lambda: seal(hub, public, bytes(32), plain), note)
        note = "libsodium; with the identity's file read anew"
        yield _row("a Secret of 1 KiB, opened on the device", rounds, lambda: keys.unseal(body), note)
        size, clear = float(len(body)), float(len(plain.body))
        yield Row(GROUP, "bytes of it in the journal", size, "B", "in clear", clear, "lower", "nothing of it deflates")


def _row(name: str, rounds: int, work: Callable[[], object], note: str) -> Row:
    least = min(_took(work) for _ in range(rounds))
    return Row(GROUP, name, least * 1e6, "µs", "", None, "lower", note)


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
