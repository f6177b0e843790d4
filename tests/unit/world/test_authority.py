"""Whom the device takes for its hub: a signing key that its authority certifies for that, and that has not ended."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.errors import Malformed
from skerry.plan.certificate import Time, Told, time_of
from skerry.world.authority import OpensslAuthority, verified
from skerry.world.clock import known_time
from skerry_hub import pki
from skerry_hub.enrolment.authority import Authority
from skerry_hub.enrolment.signer import SigningKeys
from skerry_hub.mosquitto import hub_names

NOW = pki.utc_now()
CA, STRANGER = (pki.new_authority(name, 3_650, NOW) for name in ("skerry device authority", "a stranger"))
PEM = CA.certificate_pem.decode()
AUTHORITY = Authority(CA, (CA.certificate,))
HUB = hub_names()[0]


def sure(now: datetime) -> Time:
    return Time(now.timestamp(), 0.0, True)


CLOCKS = {"1970": 0.0, "2038": float(1 << 31), "an hour back": -3_600.0, "a year ahead": 365 * 86_400.0}


@pytest.mark.parametrize("wall", CLOCKS.values(), ids=CLOCKS)
def test_whatever_a_clock_says_that_nobody_has_set_a_hub_is_believed_until_its_key_has_ended_for_sure(
    wall: float,
) -> None:
    """At first contact, and again when the hub has told the time and the clock steps."""
    chain, public = certificate()
    off = wall if abs(wall) > 1e9 or not wall else NOW.timestamp() + wall
    made = (NOW - timedelta(days=100)).timestamp()
    first = time_of(off, False, made, None, 5.0)
    assert verified(PEM, chain, first) == public
    told = Told(NOW.timestamp(), 5.0)
    assert verified(PEM, chain, time_of(off, False, made, told, 60.0)) == public
    with pytest.raises(Malformed, match="has ended"):
        verified(PEM, chain, time_of(off, False, made, told, 5.0 + 31 * 86_400))


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
    keys, mine = SigningKeys(AUTHORITY, HUB, lambda: times[-1]), OpensslAuthority(PEM, known_time)
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
    assert verified(both, chain, sure(NOW)) == public


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
        verified(PEM, certificate(name, by)[0], sure(NOW))


@pytest.mark.parametrize("names", [(), ("hub.example",)], ids=["client", "server"])
def test_a_certificate_that_is_for_tls_signs_no_set_whatever_it_is_called(names: tuple[str, ...]) -> None:
    """As every certificate is that the authority signs for a device, a broker or a server, by whomever and however its
    name came about. Even of a key of the right kind."""
    key = Ed25519PrivateKey.generate().public_key()
    end = NOW + timedelta(days=30)
    made = pki.certify(CA, key, f"{HUB}.signing", (), names, NOW, end).public_bytes(Encoding.DER)
    with pytest.raises(Malformed, match="not for a hub's signing key"):
        verified(PEM, made, sure(NOW))


def test_what_the_hub_signs_for_a_device_is_never_a_signers() -> None:
    """Of the worst request that it would take: its name a signer's. The key is P-256, and the purpose TLS."""
    key = generate_private_key(SECP256R1())
    worst = AUTHORITY.device(key.public_key(), f"{HUB}.signing", 90, NOW)
    for one in (worst.certificate, worst.streams):
        with pytest.raises(Malformed, match="not for a hub's signing key"):
            verified(PEM, one.public_bytes(Encoding.DER), sure(NOW))


def test_a_key_that_is_not_ed25519_is_refused() -> None:
    ecdsa = generate_private_key(SECP256R1()).public_key()
    with pytest.raises(Malformed, match="not Ed25519"):
        verified(PEM, certificate(key=ecdsa)[0], sure(NOW))


def test_one_that_has_ended_is_refused_and_a_clock_that_is_behind_believed() -> None:
    """A board without a clock boots in 1970, and a hub may be newer than what it knows."""
    chain, public = certificate()
    with pytest.raises(Malformed, match="has ended"):
        verified(PEM, chain, sure(NOW + timedelta(days=31)))
    assert verified(PEM, chain, Time(0.0, 0.0, False)) == public
    later, public = certificate(days=(10, 40))
    assert verified(PEM, later, sure(NOW)) == public


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 8 * 300))
def test_one_bit_more_or_less_is_refused(flip: int) -> None:
    chain = bytearray(certificate()[0])
    chain[flip // 8 % len(chain)] ^= 1 << flip % 8
    with pytest.raises(Malformed):
        verified(PEM, bytes(chain), sure(NOW))


@given(st.binary(max_size=100))
def test_any_bytes_are_malformed(chain: bytes) -> None:
    with pytest.raises(Malformed):
        verified(PEM, chain, sure(NOW))
