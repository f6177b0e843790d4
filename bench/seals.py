"""What protecting state costs in time and bytes: a set's signature, a sealed frame, and a Secret from hub to pod.

Each is the least of many rounds, on one core: a figure of the code and not of the machine's other guests. The device's
half is bench.opened, which boards run too (tests/qemu).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import opened
from bench.report import Row
from contract.certificates import authority, enrolled
from skerry import identity
from skerry.model.desired import Kind, Object, object_of
from skerry.wire import cose
from skerry.wire.codec import encode
from skerry.wire.guard import ABOUT_SET
from skerry.wire.sealed import seal
from skerry_hub.crypto import OpenSsl

GROUP = "trust"
ROUNDS = 2_000
VALUE = bytes(1024)
META = {"name": "creds", "namespace": "default", "uid": "0d5bd2cf-1f6e-4ae2-9d3c-0a2f0f6f8a11"}
SEED, SHARED = bytes(range(32)), bytes(32)
NOTES = {
    opened.VERIFY: "libsodium; whatever the set's size",
    opened.FRAME_OPENED: "libsodium",
    opened.SECRET_OPENED: "libsodium; with the identity's file read anew",
}


def rows(quick: bool = False) -> Iterator[Row]:
    rounds = ROUNDS // 20 if quick else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made(folder)
        works = opened.works(folder)
        for row in (opened.VERIFY, opened.FRAME_OPENED, opened.SECRET_OPENED):
            yield _row(row, opened.least_us(works[row], rounds), NOTES[row])
        hub, plain = OpenSsl(), secret()
        public = sealing_public(hub)
        least = opened.least_us(lambda: seal(hub, public, SHARED, plain), rounds)
        yield _row("a Secret of 1 KiB, sealed at the hub", least, "once for each device, Secret and change")
        size, clear = float((folder / opened.SECRET).stat().st_size), float(len(plain.body))
        yield Row(GROUP, "bytes of it in the journal", size, "B", "in clear", clear, "lower", "nothing of it deflates")


def made(folder: Path) -> None:
    """Into `folder` what bench.opened works on: what a hub sends, and the identity of the device that it is for."""
    hub, device = OpenSsl(), enrolled(authority(), "edge-1")
    identity.write(folder, device)
    kid = cose.key_id(hub.public(SEED))
    files = {
        opened.PROOF: cose.sign_detached(hub, SEED, kid, bytes(opened.SET_BYTES), ABOUT_SET),
        opened.SIGNER: hub.public(SEED),
        opened.FRAME: cose.encrypt(hub, opened.frame_key(SEED), 1, bytes(1024)),
        opened.FRAME_SEED: SEED,
        opened.SECRET: seal(hub, hub.exchange_public(bytes.fromhex(device.keys.sealing)), SHARED, secret()),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)


def secret() -> Object:
    body = {"metadata": META, "data": {"key": VALUE}, "type": "Opaque"}
    return object_of(Kind.SECRET, META["uid"], encode(body))


def sealing_public(hub: OpenSsl) -> bytes:
    """Of any device: sealing takes the same time for each."""
    return hub.exchange_public(bytes(range(1, 33)))


def _row(name: str, least_us: float, note: str) -> Row:
    return Row(GROUP, name, least_us, "µs", "", None, "lower", note)
