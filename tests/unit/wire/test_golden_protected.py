"""Protected frames as bytes in files: with these keys a later release must make and open the same.

`SKERRY_UPDATE_GOLDEN=1` writes a new file; a changed line of an old one is a new protocol version.
"""

from __future__ import annotations

import pytest

from golden.wirecheck import NotInContract, check, validate_payload
from skerry.errors import Malformed
from skerry.ports import Crypto
from skerry.wire import codec, guard, message
from skerry.wire.delta import statement
from skerry.wire.guard import DeviceGuard, HubGuard, Signer, Word
from skerry.wire.message import Delta
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl
from unit.wire.examples import MESSAGES
from unit.wire.test_golden import GOLDEN, golden

DEVICE, HUB, DEVICE_FRESH, HUB_FRESH = (bytes((n,)) * 32 for n in (1, 2, 3, 4))
CHAIN = b"a certificate of the hub's signing key, in DER"
DELTA = MESSAGES["delta"]
EPOCH = bytes(range(8))
BOTH = pytest.mark.parametrize(("device", "hub"), [(Sodium(), OpenSsl()), (OpenSsl(), Sodium())], ids=["so", "os"])


def frame(name: str) -> bytes:
    """Of an example, as it was written into its file: another zlib may deflate it differently."""
    lines = (GOLDEN / "wire-v1" / f"{name}.cbor.txt").read_text().splitlines()
    return bytes.fromhex(dict(line.split(" ", 1) for line in lines)["frame"])


def kept(name: str, payload: bytes) -> bytes:
    return bytes.fromhex(golden(GOLDEN / "protected-v1" / f"{name}.txt", f"{payload.hex()}\n"))


class Ends:
    def __init__(self, device: Crypto, hub: Crypto) -> None:
        self.device = DeviceGuard(device, DEVICE)
        self.device.trust(hub.public(HUB))
        self.hub = HubGuard(hub, lambda: Signer(HUB, CHAIN), lambda _statement: hub.public(DEVICE))
        self.said: dict[str, bytes] = {}

    def story(self) -> Ends:
        """A hail, a Hello, its answer, two frames each way, a set's proof, streams and their will."""
        self.said["word"] = self.hub.word(frame("reject-hail"))
        self.said["hello"] = self.device.greet(frame("hello"), DEVICE_FRESH)
        self.hub.open(self.said["hello"])
        self.said["answer"] = self.hub.close(frame("welcome"), HUB_FRESH)
        self.device.open(self.said["answer"])
        for number, name in enumerate(("ack-device", "report")):
            sealed = self.device.seal(frame(name))
            assert sealed is not None
            self.said[f"up-{number + 1}"] = sealed
            self.said[f"down-{number + 1}"] = self.hub.close(frame(("delta", "ack-hub")[number]), HUB_FRESH)
        assert isinstance(DELTA, Delta)
        self.said["proof"] = self.hub.prove(statement(DELTA, self.hub.device))
        assert self.device.secrets is not None
        streams = self.device.secrets.sender(guard.stream_label(EPOCH, guard.UP))
        self.said["streams-will"], self.said["streams-up-1"] = streams.last(frame("close")), streams.seal(frame("data"))
        return self


@BOTH
def test_the_same_keys_make_the_same_bytes_and_the_other_end_opens_them(device: Crypto, hub: Crypto) -> None:
    made = Ends(device, hub).story()
    known = {name: kept(name, payload) for name, payload in made.said.items()}
    assert made.said == known
    other = Ends(device, hub)
    other.device.greet(frame("hello"), DEVICE_FRESH)
    assert other.hub.open(known["hello"]) == frame("hello")
    assert other.device.open(known["word"]) == Word(frame("reject-hail"))
    assert other.device.open(known["answer"]) == frame("welcome")
    other.hub.close(frame("welcome"), HUB_FRESH)
    assert [other.hub.open(known[f"up-{n}"]) for n in (2, 1)] == [frame("report"), frame("ack-device")]
    assert [other.device.open(known[f"down-{n}"]) for n in (2, 1)] == [frame("ack-hub"), frame("delta")]
    assert isinstance(DELTA, Delta)
    assert other.device.proves(known["proof"], statement(DELTA, other.device.kid))
    assert other.hub.secrets is not None
    streams = other.hub.secrets.receiver(guard.stream_label(EPOCH, guard.UP))
    assert streams.open(known["streams-up-1"]) == frame("data")
    assert streams.open(known["streams-will"]) == frame("close")


def test_every_payload_is_what_the_contract_says() -> None:
    made = Ends(Sodium(), OpenSsl()).story()
    kinds = {name: validate_payload(payload) for name, payload in made.said.items() if name != "proof"}
    signed = {"word": "signed-word", "hello": "signed-hello", "answer": "signed-answer"}
    assert kinds == {name: signed.get(name, "sealed") for name in kinds}
    check("set-proof", codec.decode(made.said["proof"]), "proof")
    assert isinstance(DELTA, Delta)
    check("statement", codec.decode(statement(DELTA, made.device.kid)), "statement")
    assert {p.stem for p in (GOLDEN / "protected-v1").glob("*.txt")} == set(made.said)


def test_what_the_contract_does_not_say_is_found() -> None:
    made = Ends(Sodium(), OpenSsl()).story().said
    protected, _, payload, signature = codec.decode(made["hello"][1:])
    said = codec.decode(payload)
    wrong = [
        frame("hello"),
        guard.SEALED + made["hello"][1:],
        guard.SIGNED + made["up-1"][1:],
        guard.SIGNED + codec.encode([protected, {4: b"x"}, payload, signature]),
        guard.SIGNED + codec.encode([protected, {}, payload, signature[:-1]]),
        guard.SIGNED + codec.encode([protected, {}, codec.encode({**said, 2: bytes(31)}), signature]),
        guard.SIGNED + codec.encode([protected, {}, codec.encode({**said, 1: b"no frame"}), signature]),
        guard.SEALED + codec.encode([codec.encode({1: 3}), {6: b"\x01"}, bytes(16)]),
        guard.SEALED + codec.encode([codec.encode({1: 24}), {6: b""}, bytes(16)]),
        guard.SEALED + codec.encode([codec.encode({1: 24}), {6: b"\x01"}, bytes(15)]),
    ]
    for payload in wrong:
        with pytest.raises(NotInContract):
            validate_payload(payload)


def test_a_hello_that_was_read_from_a_file_is_the_message() -> None:
    said = codec.decode(codec.decode(kept("hello", b"")[1:])[2])
    assert message.decode(said[guard.FRAME]) == MESSAGES["hello"]
    with pytest.raises(Malformed):
        message.decode(kept("hello", b""))
