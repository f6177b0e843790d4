"""Keys that a folder keeps: an authority and what it signed, as STEM.crt and STEM.key, made where there is none.

Decides when one is made anew. Knows nothing of who uses it.
"""

from __future__ import annotations

from pathlib import Path

from skerry_hub import pki
from skerry_hub.limits import CERTIFICATE_DAYS, CERTIFICATE_RENEW_DAYS


def authority(folder: Path, stem: str, name: str) -> pki.Pair:
    """The folder's authority, called `name` when it is made. A key without its certificate, as a power cut between the
    two leaves it, gets another one. Raises PkiError."""
    certificate, key = folder / f"{stem}.crt", folder / f"{stem}.key"
    kept = pki.load_key(key) if key.exists() and not certificate.exists() else None
    found = pki.load(certificate, key) if kept is None else None
    if found is None:
        found = pki.new_authority(name, CERTIFICATE_DAYS, pki.utc_now(), kept)
        pki.save(found, certificate, key)
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
