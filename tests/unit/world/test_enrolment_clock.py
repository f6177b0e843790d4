"""Enrolment on a board whose clock is wrong: first contact is before anybody can have told it the time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from contract.enrolling import NODE, serving
from skerry.errors import EnrolmentFailed, EnrolmentRefused
from skerry.world import clock
from skerry_hub import pki
from unit.world.test_enrolment import folder, openssl, run

__all__ = ["folder"]  # a fixture
pytestmark = openssl


def test_a_board_whose_clock_nobody_has_set_enrols_at_a_hub_that_is_of_the_future_to_it(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It boots in 1970, as far as OpenSSL sees: nothing is valid yet. The authority is pinned all the same."""
    with serving(tmp_path / "hub", made=pki.utc_now() + timedelta(days=30)) as hub:
        monkeypatch.setattr(clock, "SYNCHRONIZED", tmp_path)
        with pytest.raises(EnrolmentFailed, match="not yet valid; this device's clock says"):
            run(folder, hub)
        monkeypatch.setattr(clock, "SYNCHRONIZED", tmp_path / "never")
        assert run(folder, hub).issued.node == NODE


def test_a_hub_whose_certificate_ended_before_this_release_was_made_is_refused_by_any_clock(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "SYNCHRONIZED", tmp_path / "never")
    with serving(tmp_path / "hub", made=pki.utc_now() - timedelta(days=20_000)) as hub:
        with pytest.raises(EnrolmentRefused, match="certificate has ended"):
            run(folder, hub)
        assert hub.asked == []
