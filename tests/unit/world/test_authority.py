"""Whom the device takes for its hub: a signing key that its authority certifies for that, and that has not ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry.world.authority import OpensslAuthority, verified
from skerry.world.clock import SystemClock
from skerry_hub import pki
from skerry_hub.enrolment.authority import Authority
from skerry_hub.enrolment.signer import SigningKeys
from skerry_hub.mosquitto import hub_names
from unit.hub.fakes import ManualClock

NOW = pki.utc_now()
CA, STRANGER = (pki.new_authority(name, 3_650, NOW) for name in ("skerry device authority", "a stranger"))
PEM = CA.certificate_pem.decode()
AUTHORITY = Authority(CA, (CA.certificate,))
HUB = hub_names()[0]


def certificate(
    name: str = f"{HUB}.signing", by: pki.Pair = CA, key: object = None, days: tuple[float, float] = (0, 30)
) -> tuple[bytes, bytes]:
    """A certificate in DER, and the public key in it."""
    public = key or Ed25519PrivateKey.generate().public_key()
    begin, end = (NOW + timedelta(days=n) for n in days)
    made = pki.certify(by, public, name, (), (), begin, end, pki.CODE_SIGNING)  # type: ignore[arg-type]
    raw = public.public_bytes_raw() if hasattr(public, "public_bytes_raw") else b""
    return made.public_bytes(Encoding.DER), raw


async def test_the_key_of_a_hub_is_taken_and_its_successor_too() -> None:
    """Rotation while the device is away: it knows neither key."""
    times = [NOW]
    keys, mine = SigningKeys(AUTHORITY, HUB, lambda: times[-1]), OpensslAuthority(PEM, SystemClock())
    first = keys.current()
    assert keys.current() is first
    assert (
        await mine.certified(first.chain)
        == Ed25519PrivateKey.from_private_bytes(first.seed).public_key().public_bytes_raw()
    )
    times.append(NOW + timedelta(days=20))
    second = keys.current()
    assert second.seed != first.seed
    assert await mine.certified(second.chain) != await mine.certified(first.chain)


def test_a_device_that_believes_two_authorities_takes_a_key_by_either() -> None:
    chain, public = certificate(by=STRANGER)
    both = PEM + STRANGER.certificate_pem.decode()
    assert verified(both, chain, NOW.timestamp()) == public


@pytest.mark.parametrize(
    ("name", "by", "said"),
    [
        (f"{HUB}.signing", STRANGER, "does not certify"),
        ("edge-2", CA, "not for a hub's signing key"),
        ("edge-2.streams", CA, "not for a hub's signing key"),
        (HUB, CA, "not for a hub's signing key"),
    ],
)
def test_no_other_certificate_signs(name: str, by: pki.Pair, said: str) -> None:
    """A device's own is by the same authority."""
    with pytest.raises(Malformed, match=said):
        verified(PEM, certificate(name, by)[0], NOW.timestamp())


def test_a_key_that_is_not_ed25519_is_refused() -> None:
    ecdsa = generate_private_key(SECP256R1()).public_key()
    with pytest.raises(Malformed, match="not Ed25519"):
        verified(PEM, certificate(key=ecdsa)[0], NOW.timestamp())


def test_one_that_has_ended_is_refused_and_a_clock_that_is_behind_believed() -> None:
    """A board without a clock boots in 1970, and a hub may be newer than what it knows."""
    chain, public = certificate()
    with pytest.raises(Malformed, match="has ended"):
        verified(PEM, chain, (NOW + timedelta(days=31)).timestamp())
    assert verified(PEM, chain, 0.0) == public
    later, public = certificate(days=(10, 40))
    assert verified(PEM, later, NOW.timestamp()) == public


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 8 * 300))
def test_one_bit_more_or_less_is_refused(flip: int) -> None:
    chain = bytearray(certificate()[0])
    chain[flip // 8 % len(chain)] ^= 1 << flip % 8
    with pytest.raises(Malformed):
        verified(PEM, bytes(chain), NOW.timestamp())


@given(st.binary(max_size=100))
def test_any_bytes_are_malformed(chain: bytes) -> None:
    with pytest.raises(Malformed):
        verified(PEM, chain, ManualClock().wall())
