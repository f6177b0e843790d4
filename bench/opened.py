"""What protecting state costs the device, in time: a set's signature verified, a frame and a Secret opened.

Imports nothing but the agent, and takes what the hub's half (bench.seals) made from files, so that a board runs it with
its own installed agent: `python3 opened.py FOLDER ROUNDS` prints microseconds as JSON, each the least of many rounds.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from skerry.wire import cose
from skerry.wire.guard import ABOUT_SET
from skerry.world.sealing_keys import SealingKeys
from skerry.world.sodium import Sodium

SET_BYTES, HASHED_BYTES = 200, 16_384
PROOF, SIGNER, FRAME, FRAME_SEED, SECRET = "proof", "signer", "frame", "frame-seed", "secret"  # beside identity.json
VERIFY = "a set's signature, verified on the device"
FRAME_OPENED = "a frame of 1 KiB, opened on the device"
SECRET_OPENED = "a Secret of 1 KiB, opened on the device"
HASHED = "SHA-256 of 16 KiB"


def works(folder: Path) -> dict[str, Callable[[], object]]:
    """What to time, by the row's name, with the inputs in `folder`; each was done once, so wrong inputs raise here."""
    device = Sodium()
    parsed, public = cose.parse_sign1((folder / PROOF).read_bytes()), (folder / SIGNER).read_bytes()
    key, frame = frame_key((folder / FRAME_SEED).read_bytes()), (folder / FRAME).read_bytes()
    keys, secret = SealingKeys(folder), (folder / SECRET).read_bytes()
    found: dict[str, Callable[[], object]] = {
        VERIFY: lambda: cose.verified(device, parsed, public, ABOUT_SET, bytes(SET_BYTES)),
        FRAME_OPENED: lambda: cose.decrypt(device, key, frame),
        SECRET_OPENED: lambda: keys.unseal(secret),
        HASHED: lambda: hashlib.sha256(bytes(HASHED_BYTES)).digest(),
    }
    for work in found.values():
        work()
    return found


def frame_key(seed: bytes) -> cose.Key:
    return cose.derive(seed, b"", "bench")


def least_us(work: Callable[[], object], rounds: int) -> float:
    return min(_took(work) for _ in range(rounds)) * 1e6


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(folder: str, rounds: str) -> None:
    print(json.dumps({name: least_us(work, int(rounds)) for name, work in works(Path(folder)).items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
