"""Keys that a folder keeps: an authority and what it signed, as STEM.crt and STEM.key, made where there is none.

Decides when one is made anew. Knows nothing of who uses it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from skerry.limits import CLOCK_OFF_S
from skerry.world.clock import made_s
from skerry_hub import pki
from skerry_hub.limits import CERTIFICATE_DAYS, CERTIFICATE_RENEW_DAYS


def authority(folder: Path, stem: str, name: str) -> pki.Pair:
    """The folder's authority, called `name` when it is made. A key without its certificate, as a power cut between the
    two leaves it, gets another one. Raises PkiError, also where this machine's clock cannot be right: what is signed by
    it would be good for nobody whose clock is."""
    certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
    kept = pki.load_key(key) if key.exists() and not certificate.exists() else None
    found = pki.load(certificate, key) if kept is None else None
    now = pki.utc_now()
    if found is None:
        if now.timestamp() < made_s() - CLOCK_OFF_S:
            raise pki.PkiError(f"{certificate}: is not made by a clock that says {_day(now)}: set the clock first")
        found = pki.new_authority(name, CERTIFICATE_DAYS, now, kept)
        pki.save(found, certificate, key)
    begin, end = found.certificate.not_valid_before_utc, found.certificate.not_valid_after_utc
    if not begin <= now < end:
        life = f"is valid from {_day(begin)} to {_day(end)}, and this machine's clock says {_day(now)}"
        cure = "set the clock; if it is right, remove the certificate and its key, and enrol all devices anew"
        raise pki.PkiError(f"{certificate}: {life}: {cure}")
    return found


def pair(
    folder: Path, stem: str, signer: pki.Pair, name: str, organizations: tuple[str, ...], names: tuple[str, ...]
) -> pki.Pair:
    """A certificate by `signer`; one that is near its end, of another signer, without `names`, or not whole (after a
    power cut between its two files) is made anew. Raises PkiError."""
    now = pki.utc_now()
    try:
        found = pki.load(folder / f"{stem}.crt", folder / f"{stem}.key")
    except pki.PkiError:
        found = None  # and what cannot be written either is told then
    if found is not None and pki.good_for(found, signer, names, CERTIFICATE_RENEW_DAYS, now):
        return found
    made = pki.issue(signer, name, organizations, names, CERTIFICATE_DAYS, now)
    pki.save(made, folder / f"{stem}.crt", folder / f"{stem}.key")
    return made


def _day(time: datetime) -> str:
    return time.strftime("%Y-%m-%d")
