"""TLS as skerry uses it between device and hub: 1.3 and nothing older, the other side verified by the authority of this
device's enrolment and by no other, host name included.
"""

from __future__ import annotations

import ssl

from skerry.errors import EnrolmentRefused, KeyFailed
from skerry.ports import DeviceKey

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which Python has no name for
ROUNDS_MAX = 8  # of a handshake in memory; TLS 1.3 takes two


def verifying(ca: str, times: bool = True) -> ssl.SSLContext:
    """For a client of whoever has a certificate that `ca` signed (PEM, one or more). `times`: judge when it is valid by
    this board's clock. Raises ssl.SSLError."""
    context = _client()
    if not times:
        context.verify_flags |= NO_CHECK_TIME
    context.load_verify_locations(cadata=ca)
    return context


def unverified() -> ssl.SSLContext:
    """For the one question whose answer is checked in another way: which authority a hub has."""
    context = _client()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def prove(key: DeviceKey, chain: str, ca: str) -> None:
    """Shake hands with ourselves as a broker will: `chain` is a client's certificate for `key` and comes from `ca`.
    Times are not looked at: the broker's clock is what counts, and this board's may be wrong.
    Raises KeyFailed, EnrolmentRefused."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), unverified()
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= NO_CHECK_TIME
    server.num_tickets = 0
    try:
        server.load_verify_locations(cadata=ca)
    except ssl.SSLError as why:
        raise EnrolmentRefused(f"the hub gave an authority that cannot be read: {why.reason}") from None
    for context in (server, client):
        key.load_into(context, chain)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True))
    try:
        for _ in range(ROUNDS_MAX):
            waiting = [end for end in ends if not _done(end)]
            if not waiting:
                return
    except ssl.SSLCertVerificationError as why:
        raise EnrolmentRefused(f"the hub gave a certificate that no broker would take: {why.verify_message}") from None
    except ssl.SSLError as why:
        raise KeyFailed(f"this device's certificate is of no use: {why.reason}") from None
    raise KeyFailed("this device's certificate is of no use: the handshake does not end")


def _done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
