"""What is sealed opens with the keys of the identity of this moment: this one's, or the one's before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contract.certificates import authority, enrolled
from skerry import identity
from skerry.errors import IdentityBroken, NotOpened
from skerry.identity import Enrolled
from skerry.model.desired import Kind, object_of
from skerry.wire import sealed
from skerry.wire.codec import encode
from skerry.world.sealing_keys import SealingKeys
from skerry_hub.crypto import OpenSsl

FIRST, SECOND, THIRD = (bytes([n]) * 32 for n in (1, 2, 3))
META = {"name": "creds", "namespace": "default", "uid": "u"}
PLAIN = object_of(Kind.SECRET, "u", encode({"metadata": META, "data": {"a": b"nobody-may-read-this"}}))
BEGIN = enrolled(authority(), "pi")


def to(secret: bytes) -> bytes:
    return sealed.seal(OpenSsl(), OpenSsl().exchange_public(secret), bytes(32), PLAIN)


def being(folder: Path, secret: bytes, before: Enrolled | None = None) -> Enrolled:
    """Enrolled with this key, as world.enrolment does it."""
    keys = replace(BEGIN.keys, sealing=secret.hex())
    now = replace(BEGIN, keys=keys, sealing_before=before.keys.sealing if before is not None else "")
    identity.write(folder, now)
    assert identity.read(folder) == now
    return now


def test_a_device_opens_what_is_sealed_to_it(tmp_path: Path) -> None:
    being(tmp_path, FIRST)
    assert SealingKeys(tmp_path).unseal(to(FIRST)) == PLAIN.body


def test_after_a_new_enrolment_the_journal_still_opens_and_one_more_later_waits_for_the_hub(tmp_path: Path) -> None:
    """No pod has to wait for the hub, which may be away, or hold the device's set back until it is adopted."""
    keys = SealingKeys(tmp_path)
    second = being(tmp_path, SECOND, being(tmp_path, FIRST))
    assert keys.unseal(to(FIRST)) == keys.unseal(to(SECOND)) == PLAIN.body
    being(tmp_path, THIRD, second)
    assert keys.unseal(to(SECOND)) == keys.unseal(to(THIRD)) == PLAIN.body
    with pytest.raises(NotOpened, match=r"another key than this device has; its hub sends it anew"):
        keys.unseal(to(FIRST))


def test_a_device_that_is_not_enrolled_or_whose_identity_is_broken_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotOpened, match=r"this device is not enrolled"):
        SealingKeys(tmp_path).unseal(to(FIRST))
    (tmp_path / identity.IDENTITY).write_text("{")
    with pytest.raises(NotOpened, match=r"enrol this device with a new token"):
        SealingKeys(tmp_path).unseal(to(FIRST))


@pytest.mark.parametrize("text", ["", "zz", "ab" * 31])
def test_a_key_that_is_none_is_a_broken_identity_and_an_earlier_one_is_passed_over(tmp_path: Path, text: str) -> None:
    identity.write(tmp_path, replace(BEGIN, sealing_before=text))
    assert identity.read(tmp_path) == BEGIN
    identity.write(tmp_path, replace(BEGIN, keys=replace(BEGIN.keys, sealing=text)))
    with pytest.raises(IdentityBroken, match="sealing"):
        identity.read(tmp_path)
