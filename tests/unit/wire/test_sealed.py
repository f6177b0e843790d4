"""Sealed Secrets: equal input gives equal bytes, nothing of the plaintext is seen, and only the device opens them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pycddl  # type: ignore[import-untyped, unused-ignore]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden.wirecheck import CDDL
from skerry.errors import NotOpened
from skerry.limits import DELTA_BYTES_TARGET
from skerry.model.desired import Kind, Object, object_of, packed_objects
from skerry.ports import Crypto
from skerry.wire import sealed
from skerry.wire.codec import decode, encode
from skerry.wire.cose import key_id
from skerry.wire.delta import full_name, next_step
from skerry.world.sodium import Sodium
from skerry_hub.crypto import OpenSsl
from unit.wire.test_golden import golden

GOLDEN = Path(__file__).parents[2] / "golden"
PAIRS = pytest.mark.parametrize(("hub", "device"), [(OpenSsl(), Sodium()), (Sodium(), OpenSsl())], ids=["os", "so"])
SECRET, OTHER = bytes(range(32)), bytes(range(1, 33))
PUBLIC = OpenSsl().exchange_public(SECRET)
KEY = b"shared by all replicas of a hub."
KEYS = {key_id(PUBLIC): SECRET}
CANARY = b"nobody-may-read-this"


def secret(value: bytes = CANARY, uid: str = "u1", name: str = "creds") -> Object:
    body = {"metadata": {"name": name, "namespace": "default", "uid": uid}, "data": {"key": value}, "type": "Opaque"}
    return object_of(Kind.SECRET, uid, encode(body))


def seal(o: Object, public: bytes = PUBLIC, key: bytes = KEY, crypto: Crypto | None = None) -> bytes:
    return sealed.seal(crypto or OpenSsl(), public, key, o)


@PAIRS
def test_a_device_opens_what_a_hub_sealed(hub: Crypto, device: Crypto) -> None:
    body = seal(secret(), crypto=hub)
    assert sealed.is_sealed(body)
    assert not sealed.is_sealed(secret().body)
    assert sealed.unseal(device, KEYS, body) == secret().body
    assert full_name(body) == "default/creds", "who cannot open it knows which one it is"
    assert CANARY not in body
    assert b"Opaque" not in body


def test_equal_secrets_are_sealed_to_equal_bytes_and_any_difference_to_others() -> None:
    """So a restarted hub, or another replica, sends none anew; and no two messages share an ephemeral key."""
    assert seal(secret()) == seal(secret(), crypto=Sodium())
    different = [
        seal(secret()),
        seal(secret(b"another")),
        seal(secret(uid="u2")),
        seal(secret(name="other")),
        seal(secret(), public=OpenSsl().exchange_public(OTHER)),
        seal(secret(), key=b"the key of a hub of another kind"),
    ]
    assert len(set(different)) == len(different)
    assert len({decode(body)["sealed"][1][:32] for body in different}) == len(different)


@given(st.binary(max_size=2000))
def test_its_digest_says_nothing_to_who_has_not_the_hubs_key(value: bytes) -> None:
    """Whoever guesses a value cannot test the guess: sealed under another key it is another object."""
    assert seal(secret(value)) != seal(secret(value), key=b"what somebody guesses of the key")


def test_another_key_is_told_from_a_broken_seal() -> None:
    body = seal(secret())
    other = OpenSsl().exchange_public(OTHER)
    with pytest.raises(NotOpened, match=r"another key than this device has; its hub sends it anew"):
        sealed.unseal(Sodium(), {key_id(other): OTHER}, body)
    with pytest.raises(NotOpened, match=r"does not open"):
        sealed.unseal(Sodium(), {key_id(PUBLIC): OTHER}, body)
    value = decode(body)
    for changed in (
        {**value, "metadata": {**value["metadata"], "name": "another"}},
        {**value, "metadata": {**value["metadata"], "uid": "u2"}},
        {**value, "sealed": [value["sealed"][0], value["sealed"][1][:-1]]},
        {**value, "sealed": value["sealed"][:1]},
        {"sealed": 7, "metadata": {}},
    ):
        with pytest.raises(NotOpened) as found:
            sealed.unseal(Sodium(), KEYS, encode(changed))
        assert CANARY.decode() not in str(found.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_opened_or_refused(body: bytes) -> None:
    with pytest.raises(NotOpened):
        sealed.unseal(Sodium(), KEYS, body)


def test_a_changed_secret_travels_whole_and_nothing_of_it_shows_by_repr() -> None:
    before, after = (object_of(Kind.SECRET, "u1", seal(secret(v))) for v in (b"one", b"two"))
    step = next_step(
        packed_objects([before]), packed_objects([after]), {after.key: after}, {before.key: before.body}
    )  # fmt: skip
    assert step is not None
    (put,) = step.puts
    assert (put.patched, put.data) == (False, after.body)
    assert len(put.data) < DELTA_BYTES_TARGET
    assert CANARY.decode() not in repr(secret())
    assert repr(replace(secret(), uid="u9")) != repr(secret())


def test_a_sealed_secret_is_read_from_and_written_to_the_bytes_of_version_1() -> None:
    """A changed line means that each hub of the release before, and each journal, has another form."""
    body = seal(secret())
    lines = (f"plain {secret().body.hex()}", f"device {PUBLIC.hex()}", f"key {KEY.hex()}", f"sealed {body.hex()}")
    pycddl.Schema(f"root-rule = sealed-secret\n{CDDL.read_text()}").validate_cbor(body)
    known = golden(GOLDEN / "sealed-secret.txt", "\n".join(lines) + "\n")
    said = dict(line.split(" ", 1) for line in known.splitlines())
    assert said["sealed"] == body.hex()
    assert sealed.unseal(Sodium(), KEYS, bytes.fromhex(said["sealed"])).hex() == said["plain"]
