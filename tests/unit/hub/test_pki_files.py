"""Keys that a folder keeps: whatever a power cut left of them, the next start has them whole."""

from __future__ import annotations

import errno
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from skerry_hub import pki, pki_files


class Cut(BaseException):
    """The power."""


def kept(folder: Path) -> tuple[pki.Pair, pki.Pair]:
    authority = pki_files.authority(folder, "ca", "an authority")
    return authority, pki_files.pair(folder, "server", authority, "server", (), ("hub.example",))


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    assert [one.certificate for one in kept(tmp_path)] == [one.certificate for one in kept(tmp_path)]


def test_a_power_cut_at_any_step_leaves_what_the_next_start_makes_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a first start, and of one that makes a certificate anew."""
    left, real = [0], os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cut
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    for step in range(8):
        folder = tmp_path / str(step)
        folder.mkdir()
        left[0] = step
        with pytest.raises(Cut):
            kept(folder)
        left[0] = 100
        authority, server = kept(folder)
        assert pki_files.authority(folder, "ca", "an authority").certificate == authority.certificate
        left[0] = step % 4
        with pytest.raises(Cut):
            pki_files.pair(folder, "server", authority, "server", (), ("another.example",))
        left[0] = 100
        again = pki_files.pair(folder, "server", authority, "server", (), ("another.example",))
        assert pki.names_of(again.certificate) == {"another.example"}
        assert again.key.private_numbers() != server.key.private_numbers()
        again.certificate.verify_directly_issued_by(authority.certificate)
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_an_authority_whose_certificate_is_lost_keeps_its_key_so_that_what_it_signed_is_good(tmp_path: Path) -> None:
    before, server = kept(tmp_path)
    (tmp_path / "ca.crt").unlink()
    after = pki_files.authority(tmp_path, "ca", "an authority")
    assert after.key.public_key() == before.key.public_key()
    server.certificate.verify_directly_issued_by(after.certificate)


def test_an_authority_whose_key_is_lost_or_another_is_not_made_anew(tmp_path: Path) -> None:
    kept(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(pki.PkiError, match="belong together"):
        kept(tmp_path)
    pki.write_private(tmp_path / "ca.key", pki.private_pem(pki.new_key()))
    with pytest.raises(pki.PkiError, match="does not belong to"):
        kept(tmp_path)


def test_a_link_in_the_place_of_a_new_file_is_not_followed(tmp_path: Path) -> None:
    """Put there by whoever may write to the folder: the key would be written into his file."""
    (tmp_path / "his").write_text("")
    (tmp_path / ".ca.key.new").symlink_to(tmp_path / "his")
    (tmp_path / "ca.key").symlink_to(tmp_path / "none")
    pki.write_private(tmp_path / "ca.key", b"secret")
    assert (tmp_path / "his").read_text() == ""
    assert (tmp_path / "ca.key").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "ca.key").lstat().st_mode) == 0o600


def test_a_full_disk_leaves_no_half_of_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(pki.PkiError, match="No space left"):
        kept(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_is_behind_makes_no_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hub on a board without a battery, before a time server has answered: an authority of 1970 ends in 1980."""
    now = pki.utc_now()
    monkeypatch.setattr(pki, "utc_now", lambda: datetime(1970, 1, 2, tzinfo=timezone.utc))
    with pytest.raises(pki.PkiError, match="a clock that says 1970-01-02: set the clock first"):
        kept(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(pki, "utc_now", lambda: now)
    assert kept(tmp_path)[0].certificate.not_valid_after_utc > now


@pytest.mark.parametrize("days", [4_000, -4_000], ids=["not yet", "no more"])
def test_an_authority_that_is_not_valid_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Made by a clock that ran ahead, or ten years old."""
    now = pki.utc_now()
    made = pki.new_authority("an authority", 3_650, now + timedelta(days=days))
    pki.save(made, tmp_path / "ca.crt", tmp_path / "ca.key")
    begins = f"{made.certificate.not_valid_before_utc:%Y-%m-%d}"
    said = rf"ca.crt: is valid from {begins} to .* set the clock; if it is right"
    with pytest.raises(pki.PkiError, match=said):
        kept(tmp_path)


def test_a_certificate_of_a_clock_that_ran_ahead_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, server = kept(tmp_path)
    now = pki.utc_now()
    monkeypatch.setattr(pki, "utc_now", lambda: now + timedelta(days=730))
    ahead = pki_files.pair(tmp_path, "server", authority, "server", (), ("another.example",))
    monkeypatch.setattr(pki, "utc_now", lambda: now)
    again = pki_files.pair(tmp_path, "server", authority, "server", (), ("another.example",))
    assert again.certificate.not_valid_before_utc <= now < ahead.certificate.not_valid_before_utc
    assert server.certificate != again.certificate
