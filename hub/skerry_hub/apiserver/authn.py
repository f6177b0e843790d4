"""Who asks: a client certificate of our authority, or the administrator's bearer token; anything else is nobody.

Roles come later; until then only group system:masters may do anything. Refuses to know what is asked for.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from skerry_hub.http import Request

from .status import ApiError, unauthorized

MASTERS = "system:masters"


@dataclass(frozen=True)
class Identity:
    user: str
    groups: tuple[str, ...]


def identify(request: Request, token: bytes) -> Identity:
    """The identity behind `request`. Raises ApiError 401 for nobody and 403 for one without rights."""
    header = request.header("authorization")
    if header:
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1", "replace"), token):
            return Identity("admin", (MASTERS, "system:authenticated"))
        raise unauthorized()
    if request.certificate is None:
        raise unauthorized()
    names = [pair for part in request.certificate.get("subject", ()) for pair in part]
    user = next((value for key, value in names if key == "commonName"), "")
    groups = tuple(value for key, value in names if key == "organizationName")
    if not user:
        raise unauthorized()
    if MASTERS not in groups:
        text = f'User "{user}" has no rights: roles are not served yet, only group {MASTERS} is'
        raise ApiError(403, "Forbidden", f"forbidden: {text}", {})
    return Identity(user, (*groups, "system:authenticated"))
