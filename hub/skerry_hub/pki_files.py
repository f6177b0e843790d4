"""Keys that a folder keeps: an authority and what it signed, as STEM.crt and STEM.key, made where there is none.

Decides when one is made anew. Knows nothing of who uses it.
"""

from __future__ import annotations

from pathlib import Path

from skerry_hub import pki
from skerry_hub.limits import CERTIFICATE_DAYS, CERTIFICATE_RENEW_DAYS


def authority(folder: Path, stem: str, name: str) -> pki.Pair:
    """The folder's authority, called `name` when it is made. Raises PkiError."""
    found = pki.load(folder / f"{stem}.crt", folder / f"{stem}.key")
    if found is None:
        found = pki.new_authority(name, CERTIFICATE_DAYS, pki.utc_now())
        pki.save(found, folder / f"{stem}.crt", folder / f"{stem}.key")
    return found


def pair(
    folder: Path, stem: str, signer: pki.Pair, name: str, organizations: tuple[str, ...], names: tuple[str, ...]
) -> pki.Pair:
    """A certificate by `signer`; one that is near its end, of another signer or without `names` is made anew. Raises
    PkiError."""
    now = pki.utc_now()
    found = pki.load(folder / f"{stem}.crt", folder / f"{stem}.key")
    if found is not None and pki.good_for(found, signer, names, CERTIFICATE_RENEW_DAYS, now):
        return found
    made = pki.issue(signer, name, organizations, names, CERTIFICATE_DAYS, now)
    pki.save(made, folder / f"{stem}.crt", folder / f"{stem}.key")
    return made
