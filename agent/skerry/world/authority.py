"""ports.Authority by the `openssl` command: whether the authority of this device's identity certifies a signing key.

A child of some milliseconds, once for each key that a hub comes with, where a library that verifies certificates would
stay in memory. The certificate comes from outside; it is read by openssl, whose verdict counts, and for its times here.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

from skerry.errors import KeyFailed, Malformed
from skerry.limits import CERTIFY_TIMEOUT_S, SIGNING_KEY_BYTES
from skerry.plan.certificate import Life, Time, ended
from skerry.wire import x509
from skerry.world.device_key import in_memory, openssl

# How the common name of a hub's signing key begins and ends: no node's does. Its certificate is for code signing only,
# as none of a device, a broker or a server is.
SIGNER = ("skerry-hub:", ".signing")
_PEM = "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n"
_PUBLIC = "-----BEGIN PUBLIC KEY-----"
_ED25519 = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of an Ed25519 key (RFC 8410), before it


class OpensslAuthority:
    def __init__(self, ca: str, time: Callable[[], Time]) -> None:
        """`ca`: one or more certificates in PEM. `time`: as far as it is known."""
        self._ca, self._time = ca, time

    async def certified(self, chain: bytes) -> bytes:
        work = asyncio.to_thread(verified, self._ca, chain, self._time())
        try:
            return await asyncio.wait_for(work, CERTIFY_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise Malformed(f"no verdict on the hub's certificate within {CERTIFY_TIMEOUT_S:g} s") from None


def verified(ca: str, der: bytes, time: Time) -> bytes:
    """The Ed25519 key. Blocks. Raises Malformed.

    One that is not valid yet is taken: a board's clock may be behind, and would refuse every hub. One that has ended by
    a time that is sure, or by what it is at least, is not: an old key is what could have been stolen.
    """
    read = x509.read(der)
    begin, end = SIGNER
    named = read.common_name.startswith(begin) and read.common_name.endswith(end)
    if not named or x509.purposes(der) != {x509.CODE_SIGNING}:
        raise Malformed("a certificate that is not for a hub's signing key")
    if ended(Life(read.begins, read.ends), time):
        raise Malformed("the hub's signing key has a certificate that has ended")
    try:
        with in_memory(ca) as authority, in_memory(_PEM.format(base64.encodebytes(der).decode())) as one:
            files = [f"/proc/self/fd/{descriptor}" for descriptor in (authority, one)]
            argv = ("verify", "-no_check_time", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", *files)
            openssl(argv, f"{files[1]}: OK", (authority, one))
            shown = openssl(("x509", "-in", files[1], "-noout", "-pubkey"), _PUBLIC, (one,))
    except (KeyFailed, OSError) as why:  # or no memory file can be made
        raise Malformed(f"a signer that this device's authority does not certify: {why}") from None
    body = "".join(line for line in shown.splitlines() if "-----" not in line)
    key = base64.b64decode(body)
    if not key.startswith(_ED25519) or len(key) != len(_ED25519) + SIGNING_KEY_BYTES:
        raise Malformed("a signing key that is not Ed25519")
    return key[len(_ED25519) :]
