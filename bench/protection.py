"""What protected frames cost: bytes of a greeting, of a frame and of a signed change; time of each primitive by both
adapters, beside hashing and copying the same bytes; memory of the device's library. bench.trust shows them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from statistics import median

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from bench.report import Row
from bench.wire import BUDGET_CHANGE, BUDGET_NEW, USUAL, deltas
from contract.certificates import authority, pem
from skerry.ports import Crypto
from skerry.wire import message
from skerry.wire.delta import statement
from skerry.wire.guard import DeviceGuard, HubGuard, Signer, Unknown
from skerry.wire.message import Hello, Welcome
from skerry.world.authority import SIGNER, OpensslAuthority
from skerry.world.clock import known_time
from skerry.world.sodium import Sodium
from skerry_hub import pki
from skerry_hub.crypto import OpenSsl
from skerry_hub.enrolment.authority import Authority

GROUP = "trust"
DEVICE, HUB, FRESH = (bytes((n,)) * 32 for n in (1, 2, 3))
PIECE = 16_384  # a piece of a stream
ROUNDS, EACH_S = 9, 0.05
CA = authority("skerry device authority")
LOADS = """
import json
def memory():
    said = dict(line.split()[:2] for line in open("/proc/self/smaps_rollup") if line.count("kB"))
    return int(said["Pss:"]) / 1024
from skerry import boot
from skerry.world import mqtt, link, enrolled, store
import uvloop, ssl
ssl.create_default_context()
before = memory()
from skerry.world.sodium import Sodium
from skerry.wire.guard import DeviceGuard
guard = DeviceGuard(Sodium(), bytes(32))
guard.greet(b"hello", bytes(range(32)))
print(json.dumps([before, memory()]))
"""


def rows(python: list[str], rounds: int) -> Iterator[Row]:
    """`python` is the private interpreter's argv up to its program."""
    yield from _bytes()
    yield from _times(rounds)
    yield _greeting(rounds)
    yield _certificate()
    yield _memory(python, rounds)


def _signer() -> Signer:
    now = pki.utc_now()
    key = Ed25519PublicKey.from_public_bytes(OpenSsl().public(HUB))
    made = pki.certify(CA, key, "hub".join(SIGNER), (), (), now, now + timedelta(days=30), pki.CODE_SIGNING)
    return Signer(HUB, made.public_bytes(Encoding.DER))


# --- bytes ------------------------------------------------------------------------------------------------------------


def _bytes() -> Iterator[Row]:
    signer, hello = _signer(), Hello("edge-1", bytes(8), bytes(16), "0d5bd2cf-1f6e-4ae2-9d3c-0a2f0f6f8a11",
        "0d5bd2cf-1f6e-4ae2-9d3c-0a2f0f6f8a11", "6f1c2a34-77aa-4c1d-8a0e-5b1de2c9f001", 4_711, 12, bytes(16), 7, 10,
        1_764_000_000, "0.1.0")  # fmt: skip
    stated = Authority(CA, (CA.certificate,)).statement(
        "edge-1", OpenSsl().public(DEVICE), OpenSsl().exchange_public(FRESH)
    )
    device = DeviceGuard(Sodium(), DEVICE, stated)
    hub = HubGuard(OpenSsl(), lambda: signer, lambda _: OpenSsl().public(DEVICE))
    clear, answer = message.encode(hello), message.encode(Welcome(bytes(8), False, False, 16))
    first = device.greet(clear, FRESH)
    hub.open(first)
    long = hub.close(answer, FRESH)
    assert isinstance(device.open(long), Unknown)
    device.trust(OpenSsl().public(HUB))
    device.open(long)
    again = device.greet(clear, FRESH)
    hub.open(again)
    short = hub.close(answer, FRESH)
    device.open(short)
    sealed = device.seal(b"")
    assert sealed is not None
    note = f"MQTT payload; {len(stated)} B of it what the authority states of the device"
    yield Row(GROUP, "bytes of a Hello", len(again), "B", "in clear", len(clear), "lower", note)
    yield Row(GROUP, "bytes of its answer", len(short), "B", "in clear", len(answer), "lower", "by a key it knows")
    note = "with the certificate of the hub's signing key, once for each key"
    yield Row(GROUP, "· the first one", len(long), "B", "in clear", len(answer), "lower", note)
    whole = len(again) + len(short) + len(sealed)
    peer, note = len(clear) + len(answer), "Hello, answer, proof that the Hello is no copy"
    yield Row(GROUP, "bytes of a reconnect with nothing changed", whole, "B", "in clear", peer, "lower", note)
    yield from _change(device, hub)


def _change(device: DeviceGuard, hub: HubGuard) -> Iterator[Row]:
    """A pod that comes, and a field of it that changes, each as one MQTT payload."""
    whole = len(json.dumps(json.loads(USUAL.read_text()), separators=(",", ":")))
    new = ("a new usual pod", f"{BUDGET_NEW:.0%} of its JSON", BUDGET_NEW * whole)
    names = (new, ("one changed field", "budget", BUDGET_CHANGE))
    for delta, (name, beside, budget) in zip(deltas(), names, strict=True):
        clear = len(message.encode(delta))
        proven = replace(delta, proof=hub.prove(statement(delta, hub.device)))
        assert device.proves(proven.proof, statement(delta, device.kid))
        signed = len(message.encode(proven))
        payload = hub.close(message.encode(proven), FRESH)
        note = f"{clear} B in clear, {signed - clear} for the signature, {len(payload) - signed} for the seal"
        yield Row(GROUP, f"bytes of {name}, signed and sealed", len(payload), "B", beside, budget, "lower", note)


# --- time -------------------------------------------------------------------------------------------------------------


def _times(rounds: int) -> Iterator[Row]:
    """Each beside the other ones in turns."""
    data, key, nonce = bytes(range(256)) * (PIECE // 256), bytes(32), bytes(12)
    calls: dict[str, Callable[[], object]] = {"SHA-256": lambda: sha256(data).digest(), "copy": lambda: bytearray(data)}
    both: dict[str, Crypto] = {"libsodium": Sodium(), "OpenSSL": OpenSsl()}
    public, signature = OpenSsl().public(HUB), OpenSsl().sign(HUB, data[:200])
    sealed, other = OpenSsl().seal(key, nonce, data, b""), OpenSsl().exchange_public(DEVICE)
    for name, crypto in both.items():
        calls[f"sign {name}"] = lambda crypto=crypto: crypto.sign(HUB, data[:200])  # type: ignore[misc]
        calls[f"verify {name}"] = lambda crypto=crypto: crypto.verify(public, signature, data[:200])  # type: ignore[misc]
        calls[f"exchange {name}"] = lambda crypto=crypto: crypto.exchange(FRESH, other)  # type: ignore[misc]
        calls[f"seal {name}"] = lambda crypto=crypto: crypto.seal(key, nonce, data, b"")  # type: ignore[misc]
        calls[f"open {name}"] = lambda crypto=crypto: crypto.open(key, nonce, sealed, b"")  # type: ignore[misc]
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(max(2, rounds)):
        for name, call in calls.items():
            seen[name].append(_micros(call))
    took = {name: median(times) for name, times in seen.items()}
    for name, where in (("libsodium", "the device's"), ("OpenSSL", "the hub's")):
        for what in ("sign", "verify", "exchange"):
            note = f"200 B, {where} library"
            yield Row(GROUP, f"{what}, {name}", took[f"{what} {name}"], "µs", "SHA-256 of 16 KiB", took["SHA-256"],
                      "lower", note)  # fmt: skip
        for what in ("seal", "open"):
            note = f"{where} library; copying them takes {took['copy']:.2f} µs"
            yield Row(GROUP, f"{what} 16 KiB, {name}", took[f"{what} {name}"], "µs", "SHA-256 of them", took["SHA-256"],
                      "lower", note)  # fmt: skip


def _micros(call: Callable[[], object]) -> float:
    """Of CPU, for one call."""
    count, began = 0, time.process_time()
    while (used := time.process_time() - began) < EACH_S:
        for _ in range(20):
            call()
        count += 20
    return used / count * 1e6


def _greeting(rounds: int) -> Row:
    """At the device: Hello, the answer, the proof that it was no copy."""
    signer, took = _signer(), []
    device = DeviceGuard(Sodium(), DEVICE)
    hub = HubGuard(OpenSsl(), lambda: signer, lambda _: OpenSsl().public(DEVICE))
    device.trust(OpenSsl().public(HUB))
    for number in range(40 * max(2, rounds)):
        fresh = number.to_bytes(4, "big") * 8
        began = time.process_time()
        first = device.greet(b"h" * 90, fresh)
        used = time.process_time() - began
        hub.open(first)
        answer = hub.close(b"w" * 20, FRESH)
        began = time.process_time()
        device.open(answer)
        device.seal(b"")
        took.append((used + time.process_time() - began) * 1e6)
    note = "Hello signed, answer verified, keys agreed on, one frame sealed; CPU"
    return Row(GROUP, "a session's greeting on the device", median(took), "µs", "", None, "lower", note)


def _certificate() -> Row:
    """By the device's child, once for each of the hub's keys."""
    judge, chain, took = OpensslAuthority(pem(CA), known_time), _signer().chain, []
    for _ in range(ROUNDS):
        began = time.monotonic()
        asyncio.run(judge.certified(chain))
        took.append((time.monotonic() - began) * 1e3)
    return Row(GROUP, "a new signing key certified", median(took), "ms", "", None, "lower", "two openssl processes")


def _memory(python: list[str], rounds: int) -> Row:
    found = []
    for _ in range(max(1, rounds)):
        done = subprocess.run([*python, "-c", LOADS], capture_output=True, text=True, check=True)
        before, after = json.loads(done.stdout)
        found.append((after, before))
    after, before = (median(column) for column in zip(*found, strict=True))
    note = f"{after - before:.2f} MiB for PyNaCl, libsodium, COSE and a Hello; nothing of it where frames are in clear"
    return Row(GROUP, "PSS with the modules of protection", after, "MiB", "without", before, "lower", note)
