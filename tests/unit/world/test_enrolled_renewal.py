"""Renewal, and what time it is, as a device's identity knows them: its hub away, its clock anywhere."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from contract.certificates import authority, enrolled, pem
from contract.enrolling import NODE, Hub
from skerry import identity
from skerry.errors import EnrolmentFailed, EnrolmentRefused
from skerry.plan.certificate import ended
from skerry.wire import x509
from skerry.wire.enrolment import trust_id
from skerry.wire.guard import About
from skerry.world import clock as clock_module
from skerry.world.enrolled import Outcome
from skerry.world.tls import NO_CHECK_TIME
from skerry_hub import pki
from unit.world.test_enrolled import CA, DONE, LATER, OPTIONS, REFUSED, Later, folder, hub, of

__all__ = ["folder", "hub"]  # fixtures


# --- renewal ----------------------------------------------------------------------------------------------------------


async def test_certificates_that_were_renewed_are_used_from_the_next_connection_on(folder: Path, hub: Hub) -> None:
    url = hub.token.url
    first, second = (replace(one, issued=replace(one.issued, url=url)) for one in (enrolled(CA, NODE) for _ in "12"))
    identity.write(folder, first)

    def ask_again(folder: Path) -> Outcome:
        identity.write(folder, second)
        return DONE

    device, _ = of(folder, ask_again=ask_again)
    assert device.life is None, "nothing has asked yet who the device is"
    options = await device.complete(OPTIONS)
    await device.news()
    device.refuse()
    assert device.refused
    await device.news()
    assert await device.renew()
    assert not device.refused
    assert (await device.complete(OPTIONS)).tls is not options.tls


async def test_a_renewal_without_news_leaves_the_refusal_as_it_is(folder: Path, hub: Hub) -> None:
    had = enrolled(CA, NODE)
    identity.write(folder, replace(had, issued=replace(had.issued, url=hub.token.url)))
    device, _ = of(folder, ask_again=lambda _folder: Outcome(changed=False))
    await device.complete(OPTIONS)
    device.refuse()
    assert not await device.renew()
    assert device.refused


async def test_what_a_renewal_comes_to_is_told_by_type_and_a_hub_that_is_away_starts_no_process(
    folder: Path, hub: Hub
) -> None:
    had = enrolled(CA, NODE)
    identity.write(folder, replace(had, issued=replace(had.issued, url=hub.token.url)))
    for outcome, kind in ((REFUSED, EnrolmentRefused), (LATER, EnrolmentFailed)):
        device, _ = of(folder, ask_again=lambda _folder, outcome=outcome: outcome)
        with pytest.raises(kind, match=outcome.problem):
            await device.renew()
    hub.close()
    device, _ = of(folder, ask_again=lambda _folder: pytest.fail("a process"))
    with pytest.raises(EnrolmentFailed, match="refused"):
        await device.renew()


async def test_a_hub_whose_name_cannot_be_looked_up_is_trouble_like_any_other(folder: Path) -> None:
    had = enrolled(CA, NODE)
    identity.write(folder, replace(had, issued=replace(had.issued, url="https://hub..example:1")))
    device, _ = of(folder, ask_again=lambda _folder: pytest.fail("a process"))
    with pytest.raises(EnrolmentFailed, match="host name that cannot be"):
        await device.renew()


async def test_the_real_child_says_that_no_such_hub_renews(folder: Path, hub: Hub) -> None:
    had = enrolled(hub.authority, NODE)
    identity.write(folder, replace(had, issued=replace(had.issued, url=hub.token.url)))
    device, _ = of(folder)
    with pytest.raises(EnrolmentFailed, match="its answer cannot be read"):
        await device.renew()


# --- time -------------------------------------------------------------------------------------------------------------

YEAR_S = 365 * 86_400.0


class Wrong(Later):
    """A board's clock, which says anything."""

    def __init__(self, wall: float) -> None:
        super().__init__()
        self.says = wall

    def wall(self) -> float:
        return self.says


TODAY = time.time()
CLOCKS = {"1970": 0.0, "2038": float(1 << 31), "an hour back": TODAY - 3_600, "a year ahead": TODAY + YEAR_S}


@pytest.mark.parametrize("wall", CLOCKS.values(), ids=CLOCKS)
async def test_a_clock_that_nobody_has_set_judges_no_certificate_until_the_hub_has_told_the_time(
    folder: Path, wall: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "SYNCHRONIZED", folder / "never")
    identity.write(folder, enrolled(CA, NODE))
    clock = Wrong(wall)
    device, _ = of(folder, clock=clock)
    tls = (await device.complete(OPTIONS)).tls
    assert tls is not None
    assert tls.verify_flags & NO_CHECK_TIME
    life = device.life
    assert life is not None
    assert not ended(life, device.time())
    device.told(About(int(time.time()), b""))
    told = device.time()
    assert told.sure
    assert abs(told.now_s - time.time()) < 60
    clock.says += 1e8  # it steps during the session
    clock.passed_s += 10
    assert device.time().now_s == pytest.approx(told.now_s + 10, abs=5)
    assert not ended(life, device.time())
    clock.passed_s += 91 * 86_400
    assert ended(life, device.time()), "and so its own certificate"


async def test_a_clock_that_is_right_for_sure_judges_and_a_hub_that_says_nothing_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock_module, "SYNCHRONIZED", folder)
    identity.write(folder, enrolled(CA, NODE))
    device, _ = of(folder, clock=Later())
    tls = (await device.complete(OPTIONS)).tls
    assert tls is not None
    assert not tls.verify_flags & NO_CHECK_TIME
    before = device.time()
    device.told(About())
    assert device.time().floor_s == before.floor_s


async def test_no_time_is_before_this_devices_own_certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the last time that a hub signed and that lies on the disk."""
    monkeypatch.setattr(clock_module, "SYNCHRONIZED", folder / "never")
    begins = pki.utc_now() + timedelta(days=400)
    identity.write(folder, enrolled(CA, NODE, begins=begins))
    device, _ = of(folder, clock=Wrong(0.0))
    await device.complete(OPTIONS)
    assert device.time().now_s == device.time().floor_s == float(int(begins.timestamp()))


async def test_other_authorities_than_its_own_are_news(folder: Path) -> None:
    had = enrolled(CA, NODE)
    identity.write(folder, had)
    device, _ = of(folder)
    assert not device.other_trust
    await device.complete(OPTIONS)
    ours = trust_id(x509.pem_blocks(had.issued.ca))
    both = trust_id([*x509.pem_blocks(had.issued.ca), *x509.pem_blocks(pem(authority()))])
    for wanted, other in ((b"", False), (ours, False), (both, True)):
        device.told(About(1_900_000_000, wanted))
        await device.news()
        assert device.other_trust is other
